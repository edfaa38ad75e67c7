{{- define "botsecret.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What everything is called. */}}
{{- define "botsecret.fullname" -}}
{{- $name := include "botsecret.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "botsecret.selector" -}}
app.kubernetes.io/name: {{ include "botsecret.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "botsecret.labels" -}}
{{ include "botsecret.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object: (list $ NAME NAMESPACED ANNOTATIONS) */}}
{{- define "botsecret.metadata" -}}
{{- $root := index . 0 -}}
metadata:
  name: {{ index . 1 }}
  {{- if index . 2 }}
  namespace: {{ $root.Release.Namespace }}
  {{- end }}
  labels:
    {{- include "botsecret.labels" $root | nindent 4 }}
  {{- $annotations := merge (dict) (default (dict) (index . 3)) (default (dict) $root.Values.commonAnnotations) }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "botsecret.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "botsecret.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: name the ServiceAccount to use, or let the chart make one (serviceAccount.create)" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The operator's own account, as the API server calls it. */}}
{{- define "botsecret.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "botsecret.serviceAccountName" . }}
{{- end -}}

{{- define "botsecret.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.global.imageRegistry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "botsecret.subject" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "botsecret.serviceAccountName" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Whether to make an object of another project: (list $ SETTINGS API WHAT) */}}
{{- define "botsecret.wanted" -}}
{{- $root := index . 0 -}}{{- $settings := index . 1 -}}{{- $api := index . 2 -}}
{{- if $settings.enabled -}}
{{- if or (eq $settings.crdMissing "always") ($root.Capabilities.APIVersions.Has $api) -}}
yes
{{- else if eq $settings.crdMissing "fail" -}}
{{- fail (printf "%s.enabled: this cluster has no %s: install the Prometheus Operator first, or set %s.crdMissing to skip" (index . 3) $api (index . 3)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do in a namespace that it serves. */}}
{{- define "botsecret.rules" -}}
{{- $name := include "botsecret.fullname" . -}}
# What is to be done: watched, never written but for the status.
- apiGroups: [botsecret.dev]
  resources: [botsecrets, botsecretstores{{ if not .Values.operator.namespaces }}, clusterbotsecretstores{{ end }}]
  verbs: [list, watch]
# What was done.
- apiGroups: [botsecret.dev]
  resources: [botsecrets/status]
  verbs: [patch]
# The finalizer of those for which there is a leased credential to revoke. The
# policy {{ $name }}-finalizers keeps the rest of them as it is.
- apiGroups: [botsecret.dev]
  resources: [botsecrets]
  verbs: [patch]
# The Secrets that BotSecrets fill, and the digest key. The watches see only the
# metadata of labelled Secrets; a get comes before each write. Also the Secrets that
# a store names as its own credentials: each is read by name, and the metadata of
# this one alone is watched. RBAC cannot say "labelled" or "named by a store": these
# rights cover every Secret.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, patch, delete]
# Whether the identity that is to read exists.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [list, watch]
# That identity's token, for a manager. The policy {{ $name }}-tokens keeps it from
# being one that the Kubernetes API accepts.
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
# Which workloads use a Secret, and the annotation that rolls them. The policy
# {{ $name }}-workloads keeps the rest of them as it is.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [get, list, watch, patch]
# The same of Argo Rollouts; the policy is {{ $name }}-rollouts.
- apiGroups: [argoproj.io]
  resources: [rollouts]
  verbs: [get, list, watch, patch]
{{- if not .Values.operator.namespaces }}
# Whether there are Rollouts at all: the metadata of this one definition.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [rollouts.argoproj.io]
  verbs: [list, watch]
{{- end }}
# Whether a pod that may hold an old value is left.
- apiGroups: [""]
  resources: [pods]
  verbs: [list{{ if .Values.rbac.rollBack }}, delete{{ end }}]
# What a person should notice.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.rbac.verify }}
# The CronJob that the user wrote to try new values with, and the Job made from it.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, create, delete]
{{- end }}
{{- end -}}
