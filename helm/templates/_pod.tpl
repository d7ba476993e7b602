{{- /* The pod of every worker. (dict "root" $ "worker" component "kind" "index"|"query" "workload" $w "environment" text) */ -}}
{{- define "penstock.pod" -}}
{{- $w := .workload -}}
{{- $gpu := ne $w.model.accelerator "cpu" -}}
metadata:
  labels: {{- include "penstock.podLabels" (dict "root" .root "worker" .worker "podLabels" $w.podLabels) | nindent 4 }}
  annotations:
    checksum/settings: {{ .environment | sha256sum }}
    {{- with $w.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "penstock.account" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $w.terminationGracePeriodSeconds }}
  securityContext: {{- include "penstock.user" . | nindent 4 }}
  {{- with include "penstock.placement" . | trim }}{{ . | nindent 2 }}{{ end }}
  {{- if and $gpu $w.gpu.runtimeClassName }}
  runtimeClassName: {{ $w.gpu.runtimeClassName }}
  {{- end }}
  {{- with include "penstock.spread" . | trim }}
  topologySpreadConstraints: {{- . | nindent 4 }}
  {{- end }}
  {{- with include "penstock.initContainers" . | trim }}
  initContainers: {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $w.kind }}
      {{- include "penstock.container" (merge (dict "command" ($w.command | default (list $w.kind))) .) | nindent 6 }}
      env:
        {{- $given := list }}{{ range $w.extraEnv }}{{ $given = append $given .name }}{{ end }}
        {{- /* a limit of processors slows down threads that do not know of it, and without one the node's would all be taken */}}
        {{- range $group, $name := dict "model" "PENSTOCK_MODEL__THREADS" "rerank" "PENSTOCK_RERANK__THREADS" }}
        {{- if not (or (hasKey (get $w.settings $group | default dict) "threads") (has $name $given)) }}
        - {name: {{ $name }}, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}
        {{- end }}
        {{- end }}
        {{- if not (has "RAYON_NUM_THREADS" $given) }}
        - {name: RAYON_NUM_THREADS, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}
        {{- end }}
        {{- with $w.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      envFrom:
        - configMapRef: {name: {{ include "penstock.name" .root }}-{{ .worker }}}
        {{- with $w.extraEnvFrom }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        - {name: monitor, containerPort: 9464}
        {{- if eq $w.kind "query" }}
        - {name: http, containerPort: 8080}
        {{- end }}
      startupProbe:
        httpGet: {path: /startz, port: monitor}
        periodSeconds: 5
        failureThreshold: {{ div (add $w.model.startupSeconds 4) 5 }}
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
      {{- if $w.pause }}
      lifecycle:
        preStop: {exec: {command: ["sleep", "{{ $w.pause }}"]}}
      {{- end }}
      resources:
        {{- $gpus := ternary (dict $w.gpu.resource $w.gpu.count) dict $gpu }}
        {{- $resources := deepCopy $w.resources }}
        {{- $_ := set $resources "limits" (merge $gpus ($resources.limits | default dict)) }}
        {{- toYaml $resources | nindent 8 }}
    {{- with $w.extraContainers }}{{ toYaml . | nindent 4 }}{{ end }}
  volumes: {{- include "penstock.volumes" . | nindent 4 }}
{{- end }}

{{- /* The spec of a pod that runs one command to its end. (dict "root" $ "workload" $w "kind" name "account" name
"environment" text "command" [...]) */ -}}
{{- define "penstock.once" -}}
restartPolicy: Never
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "penstock.user" . | nindent 2 }}
{{- with include "penstock.placement" . | trim }}{{ . | nindent 0 }}{{ end }}
{{- with include "penstock.initContainers" . | trim }}
initContainers: {{- . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .kind }}
    {{- include "penstock.container" . | nindent 4 }}
    {{- include "penstock.variables" . | nindent 4 }}
    resources:
      requests: {cpu: 100m, memory: 256Mi}
      limits: {memory: 1Gi}
volumes: {{- include "penstock.volumes" . | nindent 2 }}
{{- end }}

{{- /* What all containers of penstock's image have. (… "command" [...]) */ -}}
{{- define "penstock.container" -}}
image: {{ include "penstock.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: {{ toJson .command }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext: {{- include "penstock.security" . | nindent 2 }}
volumeMounts: {{- include "penstock.mounts" . | nindent 2 }}
{{- end }}

{{- /* Settings of a pod that has no ConfigMap of its own. (… "environment" text) */ -}}
{{- define "penstock.variables" -}}
env:
  {{- $given := list }}{{ range .workload.extraEnv }}{{ $given = append $given .name }}{{ end }}
  {{- range $key, $value := .environment | fromYaml }}
  {{- if not (has $key $given) }}
  - {name: {{ $key }}, value: {{ $value | quote }}}
  {{- end }}
  {{- end }}
  {{- with .workload.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
{{- with .workload.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "penstock.initContainers" -}}
{{- $fetch := .workload.model.fetch }}
{{- if and (eq .workload.model.source "fetch") (include "penstock.hasModels" .) }}
{{- $dot := . }}
{{- range $name, $source := dict "embedding" (required "model.fetch.embedding says where the embedding model's bundle is" $fetch.embedding) "reranker" $fetch.reranker "next" $fetch.next }}
{{- if and $source (or (eq $name "embedding") (eq $dot.kind "query") (and (eq $name "next") (eq $dot.kind "index"))) }}
- name: fetch-{{ $name }}
  {{- $command := list "fetch" $source (printf "/models/%s" $name) }}
  {{- with get $fetch (printf "%sDigest" $name) }}{{ $command = concat $command (list "--digest" .) }}{{ end }}
  {{- include "penstock.container" (merge (dict "command" $command "writes" true) $dot) | nindent 2 }}
  env:
    {{- range $field, $value := $dot.workload.settings.fetch }}
    - {name: {{ printf "PENSTOCK_FETCH__%s" (upper $field) }}, value: {{ include "penstock.value" $value | quote }}}
    {{- end }}
    {{- if include "penstock.secretFiles" $dot.root }}
    - {name: PENSTOCK_SECRETS, value: /etc/penstock/secrets}
    {{- end }}
    {{- with $dot.workload.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- if or $fetch.secret $dot.workload.extraEnvFrom }}
  envFrom:
    {{- with $fetch.secret }}
    - secretRef: {name: {{ . | quote }}}
    {{- end }}
    {{- with $dot.workload.extraEnvFrom }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- end }}
  resources:
    requests: {cpu: 100m, memory: 256Mi}
    limits: {memory: 1Gi}
{{- end }}
{{- end }}
{{- end }}
{{- if has .kind (list "index" "query") }}
{{- with .workload.initContainers }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Where pods may run. */ -}}
{{- define "penstock.placement" -}}
{{- $w := .workload -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- range $name := list "priorityClassName" "dnsPolicy" }}
{{- with get $w $name }}
{{ $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- range $name := list "nodeSelector" "affinity" "hostAliases" "dnsConfig" }}
{{- with get $w $name }}
{{ $name }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- $taint := and (ne $w.model.accelerator "cpu") $w.gpu.taint }}
{{- if or $w.tolerations $taint }}
tolerations:
  {{- if $taint }}
  - {key: {{ $w.gpu.taint }}, operator: Exists, effect: NoSchedule}
  {{- end }}
  {{- with $w.tolerations }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}

{{- define "penstock.spread" -}}
{{- $selector := dict "matchLabels" (include "penstock.selector" . | fromYaml) }}
{{- $constraints := .workload.topologySpreadConstraints }}
{{- if and .workload.spread (not $constraints) }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway") }}
{{- end }}
{{- end }}
{{- range $constraints }}
- {{ toYaml (merge (deepCopy .) (dict "labelSelector" $selector)) | nindent 2 | trim }}
{{- end }}
{{- end }}

{{- define "penstock.account" -}}
{{- .workload.serviceAccount.name | default (include "penstock.name" .root) }}
{{- end }}

{{- define "penstock.user" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "penstock.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}
