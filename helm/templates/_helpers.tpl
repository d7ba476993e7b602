{{- define "penstock.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
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
  {{- if eq .kind "index" }}
  port: 9464
  {{- end }}
http:
  host: 0.0.0.0
  port: 8080
{{- end }}

{{- /* All settings of a worker as variables. (dict "root" $ "kind" "index" "settings" $pipeline) */ -}}
{{- define "penstock.environment" -}}
{{- $all := mergeOverwrite (include "penstock.defaults" . | fromYaml) (deepCopy .root.Values.settings) (deepCopy .settings) -}}
{{- range $group, $fields := $all }}
{{- range $field, $value := $fields }}
{{- if not (kindIs "invalid" $value) }}
{{ printf "PENSTOCK_%s__%s" (upper $group) (upper $field) }}: {{ include "penstock.value" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if .root.Values.secrets.existingSecret }}
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
