{{- /* What a worker may say for itself, over what index or query say, over what the values say for all. */ -}}
{{- define "penstock.shared" -}}
{{- pick .Values "model" "gpu" "strategy" "deploymentAnnotations" "podLabels" "podAnnotations" "nodeSelector" "tolerations" "affinity"
    "priorityClassName" "spread" "topologySpreadConstraints" "disruptionBudget" "extraEnv" "extraEnvFrom" "extraVolumes"
    "extraVolumeMounts" "initContainers" "extraContainers" "hostAliases" "dnsPolicy" "dnsConfig" "serviceAccount" | toYaml }}
{{- end }}

{{- /* Every Deployment of workers by its component, whole: with `kind`, and `settings` that are all of its own. */ -}}
{{- define "penstock.workloads" -}}
{{- $all := dict }}
{{- if .Values.index.enabled }}
{{- range $name, $own := default (dict "documents" dict) .Values.index.streams }}
{{- $made := include "penstock.workload" (dict "root" $ "kind" "index" "own" $own) | fromYaml }}
{{- $_ := set $all (printf "index-%s" $name) $made }}
{{- if include "penstock.migrates" $made }}
{{- $_ := set $all (printf "index-%s-next" $name) (include "penstock.next" $made | fromYaml) }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.query.enabled }}
{{- range $name, $own := default (dict "" dict) .Values.query.deployments }}
{{- $_ := set $all (printf "query-%s" $name | trimSuffix "-") (include "penstock.workload" (dict "root" $ "kind" "query" "own" $own) | fromYaml) }}
{{- end }}
{{- end }}
{{- include "penstock.apart" $all }}
{{- toYaml $all }}
{{- end }}

{{- /* Whether a workload's collection is migrated to another model. (a workload) */ -}}
{{- define "penstock.migrates" -}}
{{- if or (.settings.migration | default dict).bundle (and (eq .model.source "fetch") .model.fetch.next) }}true{{ end }}
{{- end }}

{{- /* The workers that fill the collection of that model, in a group of their own, until a migration is ended. (an index workload) */ -}}
{{- define "penstock.next" -}}
{{- $next := deepCopy . }}
{{- $group := (.settings.migration | default dict).group | default (printf "%s-next" ((.settings.kafka | default dict).group | default "penstock-index")) }}
{{- $_ := set $next.settings "migration" (merge (dict "group" $group) (.settings.migration | default dict)) }}
{{- $_ := set $next.autoscaling "by" "none" }}
{{- toYaml (merge (dict "command" (list "migrate") "group" $group) $next) }}
{{- end }}

{{- /* Fails where two workloads would get into each other's way. (all of them by component) */ -}}
{{- define "penstock.apart" -}}
{{- $read := dict }}
{{- $hosts := dict }}
{{- range $component, $one := . }}
{{- $kafka := $one.settings.kafka | default dict }}
{{- if eq $one.kind "index" }}
{{- $group := printf "%s %s %s" $kafka.bootstrap_servers ($one.group | default $kafka.group | default "penstock-index") ($kafka.topic | default "documents") }}
{{- $filled := include "penstock.collection" $one }}
{{- with get $read $group }}
{{- if ne .collection $filled }}{{ fail (printf "%s and %s read the same topic in the same group for two collections, each of which would get a part of it: give each a settings.kafka.group of its own" .component $component) }}{{ end }}
{{- end }}
{{- $_ := set $read $group (dict "component" $component "collection" $filled) }}
{{- else if $one.ingress.enabled }}
{{- range default (list "") $one.ingress.hosts }}
{{- $place := printf "%s%s" . $one.ingress.path }}
{{- with get $hosts $place }}{{ fail (printf "%s and %s have the same place %q in their Ingress: give each hosts or a path of its own" . $component $place) }}{{ end }}
{{- $_ := set $hosts $place $component }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* (dict "root" $ "kind" "index"|"query" "own" $values) */ -}}
{{- define "penstock.workload" -}}
{{- $of := get .root.Values .kind }}
{{- $own := deepCopy (.own | default dict) }}
{{- $made := include "penstock.shared" .root | fromYaml }}
{{- $made = mergeOverwrite $made (deepCopy (omit $of "enabled" "streams" "deployments" "settings")) (omit $own "settings") }}
{{- $settings := mergeOverwrite (deepCopy (.root.Values.settings | default dict)) (deepCopy ($of.settings | default dict)) ($own.settings | default dict) }}
{{- $drain := (get $settings .kind | default dict).drain_timeout_s | default 25 | int }}
{{- $pause := ternary 5 0 (eq .kind "query") }}
{{- $grace := $made.terminationGracePeriodSeconds | int | default (add $drain $pause 10 | int) }}
{{- if le $grace (add $drain $pause | int) }}
{{- fail (printf "%s: terminationGracePeriodSeconds is %d, and a worker may take %d s to drain (settings.%s.drain_timeout_s) after %d s in which it is still found: it would be killed before" .kind $grace $drain .kind $pause) }}
{{- end }}
{{- toYaml (mergeOverwrite $made (dict "kind" .kind "settings" $settings "terminationGracePeriodSeconds" $grace "pause" $pause)) }}
{{- end }}

{{- /* The collection that a workload fills or searches. */ -}}
{{- define "penstock.collection" -}}
{{- (.settings.qdrant | default dict).collection | default "documents" }}
{{- end }}

{{- /* The component that fills what a query workload searches; fails where there is none. (dict "root" $ "workload" $w "name" component) */ -}}
{{- define "penstock.filledBy" -}}
{{- $searched := include "penstock.collection" .workload }}
{{- $found := list }}
{{- range $component, $one := include "penstock.workloads" .root | fromYaml }}
{{- if and (eq $one.kind "index") (eq $searched (include "penstock.collection" $one)) }}{{ $found = append $found $component }}{{ end }}
{{- end }}
{{- if not $found }}{{ fail (printf "no stream of index.streams fills collection %q, which %s searches: set settings.qdrant.collection there" $searched .name) }}{{ end }}
{{- first $found }}
{{- end }}

{{- /* How a Deployment goes over to new pods. (dict "root" $ "workload" $w "replicas" now) */ -}}
{{- define "penstock.strategy" -}}
{{- if .workload.strategy }}{{ toYaml .workload.strategy }}
{{- else if eq .workload.model.accelerator "cpu" }}{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
{{- else if gt (int .replicas) 1 }}{type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}
{{- else }}{type: Recreate}
{{- end }}
{{- end }}

{{- /* How many pods there are, where something else scales them: none said, unless the cluster tells of some.
(dict "root" $ "name" deployment) */ -}}
{{- define "penstock.present" -}}
{{- $found := lookup "apps/v1" "Deployment" .root.Release.Namespace .name }}
{{- if $found }}{{ $found.spec.replicas }}{{ end }}
{{- end }}

{{- /* Whether workers log in to Kafka by the identity that a cloud gives them. */ -}}
{{- define "penstock.asksCloud" -}}
{{- range $_, $one := include "penstock.workloads" . | fromYaml }}
{{- if eq (($one.settings.kafka | default dict).sasl_provider | default "") "msk" }}true{{ end }}
{{- end }}
{{- end }}

{{- /* Ports that workloads reach at the addresses of a setting. (dict "root" $ "what" "kafka"|"qdrant"|"trace"|"registry"|"fetch") */ -}}
{{- define "penstock.ports" -}}
{{- $ports := dict }}
{{- $what := .what }}
{{- range $_, $one := include "penstock.workloads" .root | fromYaml }}
{{- $of := get $one.settings $what | default dict }}
{{- $urls := list }}
{{- if eq $what "kafka" }}{{ $urls = splitList "," ($of.bootstrap_servers | default "localhost:9092") }}
{{- else if eq $what "qdrant" }}{{ $_ := set $ports ($of.grpc_port | default 6334 | int | toString) true }}
{{- else if eq $what "trace" }}{{ with $of.endpoint }}{{ $urls = list . }}{{ end }}
{{- else if eq $what "registry" }}{{ with $of.url }}{{ $urls = splitList "," . }}{{ end }}
{{- else if eq $one.model.source "fetch" }}{{ $urls = append (compact (list $one.model.fetch.embedding $one.model.fetch.reranker)) "http://any" }}
{{- end }}
{{- range $urls }}
{{- $url := urlParse (ternary . (printf "kafka://%s" .) (contains "://" .) | trim) }}
{{- $default := dict "http" "80" "kafka" "9092" }}
{{- $_ := set $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (get $default $url.scheme | default "443")) true }}
{{- end }}
{{- end }}
{{- keys $ports | sortAlpha | join "," }}
{{- end }}
