{{- define "penstock.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- if gt (len $name) 50 }}{{ fail (printf "the names of services and jobs begin with %q: choose a release name of at most %d letters" $name (sub 49 (len .Chart.Name))) }}{{ end }}
{{- $name }}
{{- end }}

{{- /* Labels that select the pods of one worker: (dict "root" $ "worker" "index-documents") */ -}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .worker }}
{{- end }}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "penstock.pipelines" -}}
{{- toYaml (default (dict "documents" dict) .Values.index.pipelines) }}
{{- end }}

{{- /* The shared settings, and over them a worker's own. (dict "root" $ "settings" $pipeline) */ -}}
{{- define "penstock.settings" -}}
{{- mergeOverwrite (deepCopy (.root.Values.settings | default dict)) (deepCopy (.settings | default dict)) | toYaml }}
{{- end }}

{{- /* The collection of a worker. (dict "root" $ "settings" $pipeline) */ -}}
{{- define "penstock.collection" -}}
{{- ((include "penstock.settings" . | fromYaml).qdrant | default dict).collection | default "documents" }}
{{- end }}

{{- /* The stream that fills that collection; fails where there is none. */ -}}
{{- define "penstock.searchedPipeline" -}}
{{- $searched := include "penstock.collection" (dict "root" . "settings" .Values.query.settings) }}
{{- $found := list }}
{{- range $pipeline, $settings := include "penstock.pipelines" . | fromYaml }}
{{- if eq $searched (include "penstock.collection" (dict "root" $ "settings" $settings)) }}{{ $found = append $found $pipeline }}{{ end }}
{{- end }}
{{- if not $found }}{{ fail (printf "no stream of index.pipelines fills collection %q, which query workers search: set query.settings.qdrant.collection" $searched) }}{{ end }}
{{- first $found }}
{{- end }}

{{- /* Where pods may run. */ -}}
{{- define "penstock.placement" -}}
{{- $gpu := ne .Values.model.accelerator "cpu" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or .Values.tolerations (and $gpu .Values.gpu.taint) }}
tolerations:
  {{- if and $gpu .Values.gpu.taint }}
  - {key: {{ .Values.gpu.taint }}, operator: Exists, effect: NoSchedule}
  {{- end }}
  {{- with .Values.tolerations }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}

{{- /* The Secret whose keys are variables, if there is one. */ -}}
{{- define "penstock.secret" -}}
{{- if .Values.secrets.existingSecret }}{{ .Values.secrets.existingSecret }}
{{- else if .Values.secrets.external.store }}{{ include "penstock.name" . }}-settings
{{- end }}
{{- end }}

{{- /* Ports of the collectors of traces that any worker sends to. */ -}}
{{- define "penstock.collectorPorts" -}}
{{- $all := list }}
{{- if .Values.index.enabled }}{{ range include "penstock.pipelines" . | fromYaml }}{{ $all = append $all . }}{{ end }}{{ end }}
{{- if .Values.query.enabled }}{{ $all = append $all .Values.query.settings }}{{ end }}
{{- $ports := dict }}
{{- range $all }}
{{- with ((include "penstock.settings" (dict "root" $ "settings" .) | fromYaml).trace | default dict).endpoint }}
{{- $url := urlParse . }}
{{- $_ := set $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https"))) true }}
{{- end }}
{{- end }}
{{- keys $ports | sortAlpha | join "," }}
{{- end }}

{{- /* Ports of the schema registries that any index worker asks. */ -}}
{{- define "penstock.registryPorts" -}}
{{- $ports := dict }}
{{- if .Values.index.enabled }}{{ range include "penstock.pipelines" . | fromYaml }}
{{- with ((include "penstock.settings" (dict "root" $ "settings" .) | fromYaml).registry | default dict).url }}
{{- range splitList "," . }}
{{- $url := urlParse (trim .) }}
{{- $_ := set $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https"))) true }}
{{- end }}
{{- end }}
{{- end }}{{ end }}
{{- keys $ports | sortAlpha | join "," }}
{{- end }}

{{- define "penstock.image" -}}
{{- $tag := .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion .Values.model.accelerator) -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ $tag }}{{ end }}
{{- end }}

{{- /* A setting's value as an environment variable has it. */ -}}
{{- define "penstock.value" -}}
{{- if or (kindIs "map" .) (kindIs "slice" .) }}{{ toJson . }}
{{- else if kindIs "float64" . }}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else }}{{ toString . }}{{ end }}
{{- end }}

{{- /* What the chart decides by itself; settings of the values win. (dict "root" $ "kind" "index") */ -}}
{{- define "penstock.defaults" -}}
{{- $model := .root.Values.model -}}
{{- $folder := ternary "/opt/penstock/shipped" "/models" (eq $model.source "shipped") -}}
{{- $provider := dict "cpu" "cpu" "cuda" "cuda" "tensorrt" "tensorrt,cuda" -}}
model:
  bundle: {{ $folder }}/{{ $model.embedding }}
  provider: {{ get $provider $model.accelerator }}
  require_provider: {{ $model.accelerator }}
  {{- if eq $model.accelerator "tensorrt" }}
  engine_cache: /engines
  {{- end }}
rerank:
  {{- if $model.reranker }}
  bundle: {{ $folder }}/{{ $model.reranker }}
  provider: {{ get $provider $model.accelerator }}
  require_provider: {{ $model.accelerator }}
  {{- if eq $model.accelerator "tensorrt" }}
  engine_cache: /engines
  {{- end }}
  {{- else }}
  enabled: false
  {{- end }}
log:
  format: json
monitor:
  host: 0.0.0.0
  {{- if has .kind (list "index" "query") }}
  port: 9464
  {{- end }}
{{- if eq .kind "query" }}
http:
  host: 0.0.0.0
  port: 8080
{{- else if eq .kind "test" }}
search:
  allow_insecure: true
{{- end }}
{{- end }}

{{- /* Fails where query workers would answer whoever reaches them, and nobody has said that they may. */ -}}
{{- define "penstock.closed" -}}
{{- $http := (include "penstock.settings" (dict "root" . "settings" .Values.query.settings) | fromYaml).http | default dict -}}
{{- if not (or (include "penstock.secret" .) $http.allow_insecure) }}
{{- fail "whoever reaches the query workers would search every tenant's documents: put PENSTOCK_HTTP__API_KEYS into a Secret and name it in secrets.existingSecret, or set settings.http.allow_insecure=true" }}
{{- end }}
{{- end }}

{{- /* All settings of a worker as variables. (dict "root" $ "kind" "index" "settings" $pipeline) */ -}}
{{- define "penstock.environment" -}}
{{- $all := mergeOverwrite (include "penstock.defaults" . | fromYaml) (include "penstock.settings" . | fromYaml) -}}
{{- range $group, $fields := $all }}
{{- range $field, $value := $fields }}
{{- if not (kindIs "invalid" $value) }}
{{ printf "PENSTOCK_%s__%s" (upper $group) (upper $field) }}: {{ include "penstock.value" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if include "penstock.secret" .root }}
PENSTOCK_SECRETS: /etc/penstock/secrets
{{- end }}
{{- end }}

{{- define "penstock.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}
