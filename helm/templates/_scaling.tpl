{{- /* How fast a worker's number changes. (a workload) */ -}}
{{- define "penstock.behavior" -}}
{{- if .autoscaling.behavior }}{{ toYaml .autoscaling.behavior }}
{{- else if eq .kind "index" -}}
# each change is a rebalance: up at once, down one by one and late
scaleDown: {stabilizationWindowSeconds: 600, policies: [{type: Pods, value: 1, periodSeconds: 120}]}
scaleUp: {stabilizationWindowSeconds: 30}
{{- end }}
{{- end }}

{{- /* KEDA's, on the lag of what the workload itself reads. (dict "root" $ "worker" component "workload" $w "name" deployment
"least" "most" numbers) */ -}}
{{- define "penstock.scaledObject" -}}
{{- $scaling := .workload.autoscaling }}
{{- $kafka := .workload.settings.kafka | default dict }}
{{- $query := .workload.settings.query | default dict }}
{{- $index := eq .workload.kind "index" }}
{{- $topic := ternary ($kafka.topic | default "documents") ($query.topic | default "") $index }}
{{- if not $topic }}{{ fail (printf "%s: autoscaling.by=keda counts the lag of settings.query.topic, and there is none: choose cpu or hpa" .worker) }}{{ end }}
{{- $protocol := $kafka.security_protocol | default "PLAINTEXT" }}
{{- if and (ne $protocol "PLAINTEXT") (not $scaling.authentication.name) }}
{{- fail (printf "%s: KEDA asks Kafka itself, and settings.kafka.security_protocol is %s: name a TriggerAuthentication with its login in autoscaling.authentication.name" .worker $protocol) }}
{{- end }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  labels: {{- include "penstock.labels" . | nindent 4 }}
  {{- if $scaling.paused }}
  annotations: {autoscaling.keda.sh/paused: "true"}
  {{- end }}
spec:
  scaleTargetRef: {name: {{ .name }}}
  minReplicaCount: {{ .least }}
  maxReplicaCount: {{ .most }}
  pollingInterval: {{ $scaling.pollingInterval }}
  cooldownPeriod: {{ $scaling.cooldownPeriod }}
  fallback: {failureThreshold: 4, replicas: {{ max 1 .least }}, behavior: currentReplicasIfHigher}
  {{- with include "penstock.behavior" .workload }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {{- . | nindent 8 }}
  {{- end }}
  triggers:
    - type: kafka
      {{- $metadata := dict
          "bootstrapServers" (required "settings.kafka.bootstrap_servers" $kafka.bootstrap_servers)
          "consumerGroup" (ternary ($kafka.group | default "penstock-index") ($query.group | default "penstock-query") $index)
          "offsetResetPolicy" "earliest" "ensureEvenDistributionOfPartitions" "true" "allowIdleConsumers" "false"
          "scaleToZeroOnInvalidOffset" "false" "lagThreshold" ($scaling.lagThreshold | int)
          "activationLagThreshold" ($scaling.activationLagThreshold | int) }}
      {{- if not (regexMatch "^\\^|," $topic) }}{{/* of several it counts all that the group reads */}}
      {{- $_ := set $metadata "topic" $topic }}
      {{- end }}
      metadata:
        {{- range $name, $value := mergeOverwrite $metadata (deepCopy $scaling.metadata) }}
        {{ $name }}: {{ $value | toString | quote }}
        {{- end }}
      {{- with $scaling.authentication }}
      {{- if .name }}
      authenticationRef: {name: {{ .name | quote }}, kind: {{ .kind }}}
      {{- end }}
      {{- end }}
    {{- with $scaling.triggers }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}
