{{- define "botsecret.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimAll "-" -}}
{{- end -}}

{{/* What everything is called: also a Service, whose name has no dots and begins with a letter. */}}
{{- define "botsecret.fullname" -}}
{{- $name := include "botsecret.name" . -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $release }}{{ $release = printf "r%s" $release }}{{ end -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimAll "-" -}}
{{- else if contains $name $release -}}
{{- $release | trunc 50 | trimAll "-" -}}
{{- else -}}
{{- printf "%s-%s" $release $name | trunc 50 | trimAll "-" -}}
{{- end -}}
{{- end -}}

{{/* Values of labels and annotations are strings, also those that look like numbers:
(list MAP, and what is not ours to give) */}}
{{- define "botsecret.strings" -}}
{{- $strings := dict -}}
{{- $others := dict -}}
{{- if gt (len .) 1 }}{{ $others = index . 1 }}{{ end -}}
{{- range $key, $value := index . 0 -}}
{{- if not (or (hasKey $others $key) (kindIs "invalid" $value)) -}}
{{- $_ := set $strings $key (kindIs "string" $value | ternary $value (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- with $strings }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- define "botsecret.selector" -}}
app.kubernetes.io/name: {{ include "botsecret.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | toYaml }}
{{- end -}}

{{- define "botsecret.standardLabels" -}}
{{ include "botsecret.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The chart's own labels, those on everything, and more: (list $ MORE). What selects
the pods is nobody else's to say, and no key stands there twice. */}}
{{- define "botsecret.labelsAnd" -}}
{{- $root := index . 0 -}}
{{- $standard := include "botsecret.standardLabels" $root -}}
{{- $more := merge (dict) (default (dict) (index . 1)) (default (dict) $root.Values.commonLabels) -}}
{{ $standard }}
{{- with include "botsecret.strings" (list $more (fromYaml $standard)) }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "botsecret.labels" -}}
{{ include "botsecret.labelsAnd" (list . nil) }}
{{- end -}}

{{/* The metadata of an object: (list $ NAME NAMESPACE ANNOTATIONS LABELS). The namespace
is the release's when true, none when false; the last two are what it has of its own. */}}
{{- define "botsecret.metadata" -}}
{{- $root := index . 0 -}}
{{- $namespace := index . 2 -}}
{{- $labels := dict -}}
{{- if gt (len .) 4 }}{{ $labels = index . 4 }}{{ end -}}
metadata:
  name: {{ index . 1 | toYaml }}
  {{- if $namespace }}
  namespace: {{ kindIs "string" $namespace | ternary $namespace $root.Release.Namespace | toYaml }}
  {{- end }}
  labels:
    {{- include "botsecret.labelsAnd" (list $root $labels) | nindent 4 }}
  {{- $annotations := merge (dict) (default (dict) (index . 3)) (default (dict) $root.Values.commonAnnotations) }}
  {{- with include "botsecret.strings" (list $annotations) }}
  annotations:
    {{- . | nindent 4 }}
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
    name: {{ include "botsecret.serviceAccountName" . | toYaml }}
    namespace: {{ .Release.Namespace | toYaml }}
{{- end -}}

{{- define "botsecret.pullSecrets" -}}
{{- with concat (default (list) .Values.imagePullSecrets) (default (list) .Values.global.imagePullSecrets) | uniq -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | toYaml }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Of a policy: the namespaces that are served, where they are listed. Others are
another installation's, or nobody's. */}}
{{- define "botsecret.served" -}}
{{- with .Values.operator.namespaces -}}
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: In
      values:
        {{- toYaml . | nindent 8 }}
{{- end -}}
{{- end -}}

{{/* Of a policy: that nothing changes of a workload that says what runs, or who deletes
it, but the annotation that rolls it. By dyn, since the kinds have different fields. Its
own labels and annotations are left out: they say neither, and a mutating webhook may add
some to whatever is written. */}}
{{- define "botsecret.annotationsAlone" -}}
variables:
  - name: notes
    expression: dyn(object).spec.template.?metadata.?annotations.orValue({})
  - name: notesBefore
    expression: dyn(oldObject).spec.template.?metadata.?annotations.orValue({})
  - name: head
    expression: dyn(object).spec.template.?metadata.orValue({})
  - name: headBefore
    expression: dyn(oldObject).spec.template.?metadata.orValue({})
validations:
  - expression: request.operation == 'UPDATE' && dyn(object).spec.template.spec == dyn(oldObject).spec.template.spec
    reason: Forbidden
    message: BotSecret changes a workload's annotations and nothing else, least of all what its pods run
  - expression: >-
      request.operation == 'UPDATE'
      && dyn(object).spec.all(field, field == 'template'
      || (field in dyn(oldObject).spec && dyn(object).spec[field] == dyn(oldObject).spec[field]))
      && dyn(oldObject).spec.all(field, field in dyn(object).spec)
    reason: Forbidden
    message: BotSecret changes a workload's annotations and nothing else of its spec
  - expression: >-
      request.operation == 'UPDATE'
      && dyn(object).metadata.?ownerReferences.orValue([]) == dyn(oldObject).metadata.?ownerReferences.orValue([])
      && dyn(object).metadata.?finalizers.orValue([]) == dyn(oldObject).metadata.?finalizers.orValue([])
    reason: Forbidden
    message: BotSecret changes a workload's annotations and not its owners or its finalizers
  - expression: >-
      request.operation == 'UPDATE'
      && variables.head.all(field, field == 'annotations'
      || (field in variables.headBefore && variables.head[field] == variables.headBefore[field]))
      && variables.headBefore.all(field, field == 'annotations' || field in variables.head)
    reason: Forbidden
    message: BotSecret changes annotations of a workload's pods and not their labels, their finalizers or what else pods are made with
  - expression: >-
      request.operation == 'UPDATE'
      && variables.notes.all(key, key.startsWith('rollout.botsecret.dev/')
      || (key in variables.notesBefore && variables.notes[key] == variables.notesBefore[key]))
      && variables.notesBefore.all(key, key.startsWith('rollout.botsecret.dev/') || key in variables.notes)
    reason: Forbidden
    message: BotSecret changes its own annotation of a workload's pods and no other
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
