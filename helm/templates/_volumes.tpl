{{- /* Whether a pod loads a model, or wants to know which it is. (… "workload" $w "kind" name) */ -}}
{{- define "penstock.hasModels" -}}
{{- if and (ne .workload.model.source "shipped") (has .kind (list "index" "query" "setup")) }}true{{ end }}
{{- end }}

{{- /* Of containers of penstock's image. (… "workload" $w "kind" name, "writes" true where models are fetched) */ -}}
{{- define "penstock.mounts" -}}
{{- $secrets := .root.Values.secrets -}}
- {name: tmp, mountPath: /tmp}
{{- if include "penstock.hasModels" . }}
- {name: models, mountPath: /models, readOnly: {{ not .writes }}}
{{- end }}
{{- if and (eq .workload.model.accelerator "tensorrt") (has .kind (list "index" "query")) }}
- {name: engines, mountPath: /engines}
{{- end }}
{{- if include "penstock.secretFiles" .root }}
- {name: secrets, mountPath: /etc/penstock/secrets, readOnly: true}
{{- end }}
{{- if or $secrets.existingTlsSecret $secrets.files }}
- {name: tls, mountPath: /etc/penstock/tls, readOnly: true}
{{- end }}
{{- if $secrets.tokenAudience }}
- {name: token, mountPath: /var/run/penstock, readOnly: true}
{{- end }}
{{- with .workload.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "penstock.volumes" -}}
{{- $secrets := .root.Values.secrets -}}
- {name: tmp, emptyDir: {}}
{{- if include "penstock.hasModels" . }}
{{- include "penstock.models" . }}
{{- end }}
{{- if and (eq .workload.model.accelerator "tensorrt") (has .kind (list "index" "query")) }}
- name: engines
  {{- if .workload.model.engineCache.claim }}
  persistentVolumeClaim: {claimName: {{ .workload.model.engineCache.claim | quote }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .workload.model.engineCache.size | quote }}}
  {{- end }}
{{- end }}
{{- if include "penstock.secretFiles" .root }}
- name: secrets
  {{- include "penstock.projected" (dict "whole" (include "penstock.secret" .root) "parts" $secrets.variables) | nindent 2 }}
{{- end }}
{{- if or $secrets.existingTlsSecret $secrets.files }}
- name: tls
  {{- include "penstock.projected" (dict "whole" $secrets.existingTlsSecret "parts" $secrets.files) | nindent 2 }}
{{- end }}
{{- with $secrets.tokenAudience }}
- name: token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: {{ . | quote }}, expirationSeconds: 3600}
{{- end }}
{{- with .workload.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "penstock.models" -}}
{{- $model := .workload.model -}}
{{- if eq $model.source "image" }}
{{- $version := .root.Capabilities.KubeVersion }}
{{- if and (not $model.imageVolumes) (semverCompare "<1.35.0-0" $version.Version) }}
{{- fail (printf "model.source=image: Kubernetes %s leaves volumes of images out without a word, unless its feature gate ImageVolume is on: set model.imageVolumes=true if it is, or choose model.source=fetch or claim" $version.Version) }}
{{- end }}
- name: models
  image: {reference: {{ required "model.image is the image that holds the bundles" $model.image | quote }}, pullPolicy: IfNotPresent}
{{- else if eq $model.source "claim" }}
- name: models
  persistentVolumeClaim: {claimName: {{ required "model.claim is the claim that holds the bundles" $model.claim | quote }}, readOnly: true}
{{- else if eq $model.source "fetch" }}
- name: models
  emptyDir: {sizeLimit: {{ $model.fetch.size | quote }}}
{{- end }}
{{- end }}

{{- /* A Secret as a whole, and keys of others by the names of files. (dict "whole" name "parts" {file: {name, key}}) */ -}}
{{- define "penstock.projected" -}}
projected:
  defaultMode: 0440
  sources:
    {{- with .whole }}
    - secret: {name: {{ . | quote }}}
    {{- end }}
    {{- range $file, $from := .parts }}
    - secret: {name: {{ $from.name | quote }}, items: [{key: {{ $from.key | quote }}, path: {{ $file | quote }}}]}
    {{- end }}
{{- end }}
