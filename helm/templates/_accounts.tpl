{{- /* Service accounts to make, with their annotations; fails where two workers want one account to be two things. */ -}}
{{- define "penstock.accounts" -}}
{{- $accounts := dict }}
{{- range $worker, $workload := include "penstock.workloads" . | fromYaml }}
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
