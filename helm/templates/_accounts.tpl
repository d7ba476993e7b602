{{- /* Service accounts to make, with their annotations; fails where two workers want one account to be two things. */ -}}
{{- define "penstock.accounts" -}}
{{- $accounts := dict }}
{{- $known := dict }}
{{- range $worker, $workload := include "penstock.workloads" . | fromYaml }}
{{- $name := include "penstock.account" (dict "root" $ "workload" $workload) }}
{{- if and (hasKey $known $name) (ne (get $known $name) $workload.serviceAccount.create) }}
{{- fail (printf "%s: the service account %q is to be made for another worker and to be there for this one: give it a serviceAccount.name" $worker $name) }}
{{- end }}
{{- $_ := set $known $name $workload.serviceAccount.create }}
{{- if $workload.serviceAccount.create }}
{{- $account := include "penstock.account" (dict "root" $ "workload" $workload) }}
{{- $annotations := $workload.serviceAccount.annotations | default dict }}
{{- if and (hasKey $accounts $account) (ne (toJson (get $accounts $account)) (toJson $annotations)) }}
{{- fail (printf "%s: the service account %q has other annotations for another worker: give it a serviceAccount.name of its own" $worker $account) }}
{{- end }}
{{- $_ := set $accounts $account $annotations }}
{{- end }}
{{- end }}
{{- toYaml $accounts }}
{{- end }}
