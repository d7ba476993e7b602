{{- /* Settings and pods of a worker. (dict "root" $ "worker" component "kind" "index"|"query" "workload" $w "environment" text
"scaled" whether something else says how many) */ -}}
{{- define "penstock.deployment" -}}
{{- $name := printf "%s-%s" (include "penstock.name" .root) .worker }}
{{- $present := include "penstock.present" (dict "root" .root "name" $name) }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  labels: {{- include "penstock.labels" . | nindent 4 }}
data: {{- .environment | trim | nindent 2 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{- include "penstock.labels" . | nindent 4 }}
  {{- with .workload.deploymentAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if not .scaled }}
  replicas: {{ .workload.replicas }}
  {{- else if $present }}
  replicas: {{ $present }} # as it is: without a number the API server would take it for one
  {{- end }}
  {{- $replicas := .workload.replicas | int }}
  {{- if .scaled }}
  {{- /* without a cluster to ask there may be several */}}
  {{- $asked := lookup "v1" "Namespace" "" .root.Release.Namespace }}
  {{- $replicas = $present | default (ternary .workload.autoscaling.min 2 (not (empty $asked))) | int }}
  {{- end }}
  strategy: {{- include "penstock.strategy" (dict "workload" .workload "replicas" $replicas) | nindent 4 }}
  progressDeadlineSeconds: {{ add .workload.model.startupSeconds 600 }}
  selector:
    matchLabels: {{- include "penstock.selector" . | nindent 6 }}
  template: {{- include "penstock.pod" . | nindent 4 }}
{{- end }}
