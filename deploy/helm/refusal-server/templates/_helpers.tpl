{{- define "rs.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "rs.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "rs.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "rs.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "rs.selector" -}}
app.kubernetes.io/name: {{ include "rs.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rs.labels" -}}
{{ include "rs.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "rs.image" -}}
{{- $tag := default (printf "%s%s" .Chart.AppVersion (ternary "-cpu" "" (eq (int .Values.gpus) 0))) .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- define "rs.policyConfigMap" -}}
{{- default (printf "%s-policy" (include "rs.fullname" .)) .Values.policy.existingConfigMap -}}
{{- end -}}

{{- define "rs.hasKeys" -}}
{{- if or .Values.access.existingSecret .Values.access.keys -}}yes{{- end -}}
{{- end -}}

{{- define "rs.keysSecret" -}}
{{- default (printf "%s-keys" (include "rs.fullname" .)) .Values.access.existingSecret -}}
{{- end -}}

{{/* The `server:` section. What the chart decides may not be set by hand: it would be half right. */}}
{{- define "rs.serverSection" -}}
{{- range list "host" "port" "ops_host" "ops_port" "policy_file" "policy_url" "api_key" "api_key_file" "keys_file" "admin_key" "admin_key_file" "drain_seconds" -}}
{{- if hasKey $.Values.server . -}}
{{- fail (printf "server.%s is set by the chart: use access, admin, policy, service or drainSeconds instead" .) -}}
{{- end -}}
{{- end -}}
{{- $own := dict "host" "0.0.0.0" "port" 8000 "ops_host" "0.0.0.0" "ops_port" 9400 "policy_file" "/etc/refusal-server/policy/policy.yaml" "drain_seconds" (int .Values.drainSeconds) "log_format" "json" -}}
{{- if include "rs.hasKeys" . -}}
{{- $_ := set $own "keys_file" "/etc/refusal-server/keys/keys.yaml" -}}
{{- end -}}
{{- if .Values.admin.existingSecret -}}
{{- $_ := set $own "admin_key_file" "/etc/refusal-server/admin/admin_key" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.server)) -}}
{{- end -}}

{{- define "rs.engineSection" -}}
{{- range list "model" "served_model_name" -}}
{{- if hasKey $.Values.engine . -}}
{{- fail (printf "engine.%s is set by the chart: use model.path and model.servedName instead" .) -}}
{{- end -}}
{{- end -}}
{{- $own := dict "model" .Values.model.path -}}
{{- if .Values.model.servedName -}}
{{- $_ := set $own "served_model_name" .Values.model.servedName -}}
{{- end -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.engine)) -}}
{{- end -}}

{{/* Restricted by the Pod Security Standards; the image runs as this user. */}}
{{- define "rs.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rs.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
