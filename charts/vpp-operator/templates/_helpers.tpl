{{- define "vpp-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "vpp-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vpp-operator.labels" -}}
{{ include "vpp-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "vpp-operator.agentAccount" -}}
{{ include "vpp-operator.fullname" . }}-agent
{{- end -}}

{{/* Image reference: (list root imageValues) */}}
{{- define "vpp-operator.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}

{{/* "vpp" where the engine's pods have VPP in their image, else "embedded": also the name of values and container. */}}
{{- define "vpp-operator.enginePods" -}}
{{- ternary "vpp" "embedded" (and (ne .Values.engine "embedded") (ne .Values.images.vpp.repository "")) -}}
{{- end -}}

{{/* A quantity of memory of a number of huge pages: (list pageSize count) */}}
{{- define "vpp-operator.hugepages" -}}
{{- $size := index . 0 -}}{{- $count := index . 1 | int64 -}}
{{- ternary (printf "%dMi" (mul 2 $count)) (printf "%dGi" $count) (eq $size "2Mi") -}}
{{- end -}}

{{/*
API servers, separated by commas: the value, or the EndpointSlice that the API servers keep of themselves.
*/}}
{{- define "vpp-operator.apiServers" -}}
{{- if .Values.apiServer.endpoints -}}
{{- join "," .Values.apiServer.endpoints -}}
{{- else -}}
{{- $found := list -}}
{{- range $slice := (lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "").items -}}
{{- if eq (dig "metadata" "labels" "kubernetes.io/service-name" "" $slice) "kubernetes" -}}
{{- $port := 443 -}}
{{- range $slice.ports }}{{ $port = int .port }}{{ end -}}
{{- range $endpoint := $slice.endpoints -}}
{{- range $endpoint.addresses -}}
{{- $found = append $found (printf (ternary "[%s]:%d" "%s:%d" (contains ":" .)) . $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- fail "apiServer.endpoints: empty, and the EndpointSlice default/kubernetes was not found (helm template does not look into a cluster); list the API servers' own addresses, as in --set apiServer.endpoints={192.0.2.1:6443}" -}}
{{- end -}}
{{- join "," ($found | uniq | sortAlpha) -}}
{{- end -}}
{{- end -}}

{{/* Environment of every process that speaks to the API server. */}}
{{- define "vpp-operator.apiEnvironment" -}}
- name: API_SERVERS
  value: {{ include "vpp-operator.apiServers" . | quote }}
- name: API_SERVER_NAME
  value: {{ .Values.apiServer.serverName | quote }}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end -}}

{{/* What a process without any privilege gets. */}}
{{- define "vpp-operator.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "vpp-operator.nodePod" -}}
hostNetwork: true
# The node's resolver: the cluster's DNS is behind a Service.
dnsPolicy: Default
priorityClassName: system-node-critical
tolerations:
  - operator: Exists
nodeSelector:
  kubernetes.io/os: linux
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "vpp-operator.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
