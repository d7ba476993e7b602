{{- define "penstock.name" -}}
{{- $name := .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name)) }}
{{- if gt (len $name) 50 }}{{ fail (printf "the names of services and jobs begin with %q: choose a release name of at most %d letters, or fullnameOverride" $name (sub 49 (len .Chart.Name))) }}{{ end }}
{{- $name }}
{{- end }}

{{- /* Labels that select the pods of one worker: (dict "root" $ "worker" "index-documents") */ -}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .worker }}
{{- end }}

{{- /* Labels of a pod: nothing that another version of the chart alone would change, since that restarts it. (… "podLabels" map) */ -}}
{{- define "penstock.podLabels" -}}
{{- mergeOverwrite (deepCopy .root.Values.commonLabels) (deepCopy (.podLabels | default dict)) (include "penstock.selector" . | fromYaml) | toYaml }}
{{- end }}

{{- define "penstock.labels" -}}
{{- $own := dict "app.kubernetes.io/version" .root.Chart.AppVersion "app.kubernetes.io/managed-by" .root.Release.Service
    "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) }}
{{- mergeOverwrite (deepCopy .root.Values.commonLabels) $own (include "penstock.selector" . | fromYaml) | toYaml }}
{{- end }}

{{- /* The Secret whose keys are variables, if there is one. */ -}}
{{- define "penstock.secret" -}}
{{- if .Values.secrets.existingSecret }}{{ .Values.secrets.existingSecret }}
{{- else if .Values.secrets.external.store }}{{ include "penstock.name" . }}-settings
{{- end }}
{{- end }}

{{- /* Whether there are variables as files. */ -}}
{{- define "penstock.secretFiles" -}}
{{- if or (include "penstock.secret" .) .Values.secrets.variables }}true{{ end }}
{{- end }}

{{- /* (dict "root" $ "workload" $w) */ -}}
{{- define "penstock.image" -}}
{{- $image := .root.Values.image -}}
{{- $tag := $image.tag | default (printf "%s-%s" .root.Chart.AppVersion .workload.model.accelerator) -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $tag }}{{ end }}
{{- end }}

{{- /* A setting's value as an environment variable has it. */ -}}
{{- define "penstock.value" -}}
{{- if or (kindIs "map" .) (kindIs "slice" .) }}{{ toJson . }}
{{- else if kindIs "float64" . }}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else }}{{ toString . }}{{ end }}
{{- end }}

{{- /* What the chart decides by itself; settings of the values win. (dict "workload" $w "kind" "index"|"query"|"setup"|"test"|"lag") */ -}}
{{- define "penstock.defaults" -}}
{{- $model := .workload.model -}}
{{- $folder := ternary "/opt/penstock/shipped" "/models" (eq $model.source "shipped") -}}
{{- $provider := dict "cpu" "cpu" "cuda" "cuda" "tensorrt" "tensorrt,cuda" -}}
{{- $reranker := ternary (ternary "reranker" "" (ne $model.fetch.reranker "")) $model.reranker (eq $model.source "fetch") -}}
model:
  bundle: {{ $folder }}/{{ ternary "embedding" $model.embedding (eq $model.source "fetch") }}
  provider: {{ get $provider $model.accelerator }}
  require_provider: {{ $model.accelerator }}
  {{- if eq $model.accelerator "tensorrt" }}
  engine_cache: /engines
  {{- end }}
rerank:
  {{- if $reranker }}
  bundle: {{ $folder }}/{{ $reranker }}
  provider: {{ get $provider $model.accelerator }}
  require_provider: {{ $model.accelerator }}
  {{- if eq $model.accelerator "tensorrt" }}
  engine_cache: /engines
  {{- end }}
  {{- else }}
  enabled: false
  {{- end }}
{{- if and (eq $model.source "fetch") $model.fetch.next (has .kind (list "index" "query")) }}
migration:
  bundle: {{ $folder }}/next
{{- end }}
log:
  format: json
monitor:
  host: 0.0.0.0
  {{- if has .kind (list "index" "query" "lag") }}
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

{{- /* Fails where query workers would answer whoever reaches them, and nobody has said that they may. (dict "root" $ "workload" $w) */ -}}
{{- define "penstock.closed" -}}
{{- $http := .workload.settings.http | default dict -}}
{{- $secrets := .root.Values.secrets -}}
{{- $keys := or $secrets.existingSecret (hasKey $secrets.variables "PENSTOCK_HTTP__API_KEYS") (and $secrets.external.store (hasKey $secrets.external.data "PENSTOCK_HTTP__API_KEYS")) -}}
{{- if not (or $keys $http.allow_insecure) }}
{{- fail "whoever reaches the query workers would search every tenant's documents: put PENSTOCK_HTTP__API_KEYS into a Secret and name it in secrets.existingSecret, or set settings.http.allow_insecure=true" }}
{{- end }}
{{- end }}

{{- /* All settings of a worker as variables. (dict "root" $ "workload" $w "kind" "index") */ -}}
{{- define "penstock.environment" -}}
{{- $all := mergeOverwrite (include "penstock.defaults" . | fromYaml) (deepCopy .workload.settings) -}}
{{- range $group, $fields := $all }}
{{- range $field, $value := $fields }}
{{- if not (kindIs "invalid" $value) }}
{{ printf "PENSTOCK_%s__%s" (upper $group) (upper $field) }}: {{ include "penstock.value" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if include "penstock.secretFiles" .root }}
PENSTOCK_SECRETS: /etc/penstock/secrets
{{- end }}
{{- end }}

{{- /* A Job's or pod's name that is not too long. */ -}}
{{- define "penstock.short" -}}
{{- if gt (len .) 63 }}{{ printf "%s-%s" (trunc 54 .) (sha256sum . | trunc 8) }}{{ else }}{{ . }}{{ end }}
{{- end }}
