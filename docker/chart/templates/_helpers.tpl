{{- define "name" -}}
{{ printf "%s-nemo-triton" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/name: nemo-triton
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- /* Mean queue time of a request in milliseconds, for the stage with the longest, over this release's servers. */}}
{{- define "queueQuery" -}}
max(
  sum by (model) (rate(nv_inference_queue_duration_us{namespace="{{ .Release.Namespace }}", pod=~"{{ include "name" . }}-.*"}[2m]))
    / (sum by (model) (rate(nv_inference_request_success{namespace="{{ .Release.Namespace }}", pod=~"{{ include "name" . }}-.*"}[2m])) > 0)
) / 1e3
{{- end }}
