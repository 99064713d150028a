# What makes a part of kustomization.yaml a template of the chart. Where no value is given, what stands in the part counts.

# Helm makes the namespace.
/^# Host network, host paths/,/^---$/d
s/^(  namespace:) routelet$/\1 {{ .Release.Namespace }}/

s/^( *image:) (.*)$/\1 {{ .Values.image | default "\2" }}/
s/^( *imagePullPolicy:) (.*)$/\1 {{ .Values.imagePullPolicy | default "\2" }}/

/^      tolerations:$/a\
      {{- if .Values.tolerations }}\
      {{- toYaml .Values.tolerations | nindent 6 }}\
      {{- else }}
/^      - operator: Exists$/a\
      {{- end }}

/^        resources:$/a\
          {{- if .Values.resources }}\
          {{- toYaml .Values.resources | nindent 10 }}\
          {{- else }}
/^            memory: 1Gi$/a\
          {{- end }}

s/^( *add: \[NET_ADMIN, NET_BIND_SERVICE)\]$/\1{{ range .Values.capabilities }}, {{ . }}{{ end }}]/

s/^( *value:) 127\.0\.0\.1:9179$/\1 {{ include "routelet.metrics" . }}/
s/\{host: 127\.0\.0\.1, port: 9179/{ {{ include "routelet.probe" . }}/
/^        # Metrics and health/i\
        {{- with .Values.env }}\
        {{- toYaml . | nindent 8 }}\
        {{- end }}\
        {{- if eq .Values.metrics.address "node" }}\
        - name: HOST_IP\
          valueFrom:\
            fieldRef:\
              fieldPath: status.hostIP\
        {{- end }}
/^        securityContext:$/i\
        {{- if eq .Values.metrics.address "node" }}\
        ports:\
        - name: metrics\
          containerPort: {{ .Values.metrics.port }}\
        {{- end }}
