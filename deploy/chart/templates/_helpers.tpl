{{- /* Where metrics and health are served. */}}
{{- define "routelet.metrics" -}}
{{- $address := eq .Values.metrics.address "node" | ternary "$(HOST_IP)" .Values.metrics.address -}}
{{- printf "%s:%v" $address .Values.metrics.port | quote -}}
{{- end }}

{{- /* Where a probe asks: the kubelet takes the node's address where none is said. */}}
{{- define "routelet.probe" -}}
{{- if not (has .Values.metrics.address (list "node" "0.0.0.0" "[::]")) -}}
host: {{ .Values.metrics.address | trimPrefix "[" | trimSuffix "]" | quote }}, {{ end -}}
port: {{ .Values.metrics.port }}
{{- end }}
