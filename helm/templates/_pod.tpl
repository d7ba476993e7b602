{{- /* The pod of every kind of worker. (dict "root" $ "worker" name "kind" "index"|"query" "command" [...] "environment" text
"resources" … "grace" seconds, "serves" {name, number} where it has a port beside that of its monitor) */ -}}
{{- define "penstock.pod" -}}
{{- $values := .root.Values -}}
{{- $gpu := ne $values.model.accelerator "cpu" -}}
metadata:
  labels:
    {{- include "penstock.labels" . | nindent 4 }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/settings: {{ .environment | sha256sum }}
    {{- with $values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "penstock.name" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace }}
  securityContext: {{- include "penstock.user" . | nindent 4 }}
  {{- with include "penstock.placement" .root | trim }}{{ . | nindent 2 }}{{ end }}
  {{- if and $gpu $values.gpu.runtimeClassName }}
  runtimeClassName: {{ $values.gpu.runtimeClassName }}
  {{- end }}
  {{- if $values.spread }}
  topologySpreadConstraints:
    {{- $selector := dict "matchLabels" (include "penstock.selector" . | fromYaml) }}
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: {{- toYaml $selector | nindent 8 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .kind }}
      image: {{ include "penstock.image" .root }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: {{ toJson .command }}
      envFrom:
        - configMapRef: {name: {{ include "penstock.name" .root }}-{{ .worker }}}
      securityContext: {{- include "penstock.security" . | nindent 8 }}
      ports:
        - {name: monitor, containerPort: 9464}
        {{- with .serves }}
        - {name: {{ .name }}, containerPort: {{ .number }}}
        {{- end }}
      startupProbe:
        httpGet: {path: /startz, port: monitor}
        periodSeconds: 5
        failureThreshold: {{ div (add $values.model.startupSeconds 4) 5 }}
      readinessProbe:
        httpGet: {path: /readyz, port: monitor}
        periodSeconds: 5
        timeoutSeconds: 3
      livenessProbe:
        httpGet: {path: /healthz, port: monitor}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
        terminationGracePeriodSeconds: 10 # one that hangs does not drain
      {{- if .pause }}
      lifecycle:
        preStop: {exec: {command: ["sleep", "{{ .pause }}"]}}
      {{- end }}
      resources:
        requests: {{- .resources.requests | default dict | toYaml | nindent 10 }}
        {{- $gpus := ternary (dict $values.gpu.resource $values.gpu.count) dict $gpu }}
        limits: {{- merge $gpus (.resources.limits | default dict) | toYaml | nindent 10 }}
      volumeMounts: {{- include "penstock.mounts" .root | nindent 8 }}
  volumes: {{- include "penstock.volumes" .root | nindent 4 }}
{{- end }}

{{- /* The spec of a pod that runs one command to its end. (dict "root" $ "kind" name "account" name "environment" text
"command" [...]) */ -}}
{{- define "penstock.once" -}}
restartPolicy: Never
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "penstock.user" . | nindent 2 }}
{{- with include "penstock.placement" .root | trim }}{{ . | nindent 0 }}{{ end }}
containers:
  - name: {{ .kind }}
    image: {{ include "penstock.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: {{ toJson .command }}
    env:
      {{- range $key, $value := .environment | fromYaml }}
      - {name: {{ $key }}, value: {{ $value | quote }}}
      {{- end }}
    securityContext: {{- include "penstock.security" . | nindent 6 }}
    resources:
      requests: {cpu: 100m, memory: 256Mi}
      limits: {memory: 1Gi}
    volumeMounts: {{- include "penstock.mounts" .root | nindent 6 }}
volumes: {{- include "penstock.volumes" .root | nindent 2 }}
{{- end }}

{{- define "penstock.user" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "penstock.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if ne .Values.model.source "shipped" }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if eq .Values.model.accelerator "tensorrt" }}
- {name: engines, mountPath: /engines}
{{- end }}
{{- if include "penstock.secret" . }}
- {name: secrets, mountPath: /etc/penstock/secrets, readOnly: true}
{{- end }}
{{- if .Values.secrets.existingTlsSecret }}
- {name: tls, mountPath: /etc/penstock/tls, readOnly: true}
{{- end }}
{{- if .Values.secrets.tokenAudience }}
- {name: token, mountPath: /var/run/penstock, readOnly: true}
{{- end }}
{{- end }}

{{- define "penstock.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- if eq .Values.model.source "image" }}
- name: models
  image: {reference: {{ required "model.image is the image that holds the bundles" .Values.model.image | quote }}, pullPolicy: IfNotPresent}
{{- else if eq .Values.model.source "claim" }}
- name: models
  persistentVolumeClaim: {claimName: {{ required "model.claim is the claim that holds the bundles" .Values.model.claim | quote }}, readOnly: true}
{{- end }}
{{- if eq .Values.model.accelerator "tensorrt" }}
- name: engines
  {{- if .Values.model.engineCache.claim }}
  persistentVolumeClaim: {claimName: {{ .Values.model.engineCache.claim | quote }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.model.engineCache.size | quote }}}
  {{- end }}
{{- end }}
{{- with include "penstock.secret" . }}
- {name: secrets, secret: {secretName: {{ . | quote }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.secrets.existingTlsSecret }}
- {name: tls, secret: {secretName: {{ . | quote }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.secrets.tokenAudience }}
- name: token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: {{ . | quote }}, expirationSeconds: 3600}
{{- end }}
{{- end }}
