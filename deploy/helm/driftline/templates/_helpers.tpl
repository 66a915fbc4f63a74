{{- define "driftline.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: driftline
{{- end }}

{{- /* What selects the pods of one component; its name is the job of its metrics, which the rules ask for. */ -}}
{{- define "driftline.selector" -}}
app.kubernetes.io/name: driftline
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "driftline.account" -}}
{{- .Values.serviceAccount.name | default (printf "%s-driftline" .Release.Name) }}
{{- end }}

{{- define "driftline.image" -}}
{{- $repository := printf "%s/%s" .root.Values.image.registry .image }}
{{- if .digest }}{{ $repository }}@{{ .digest }}{{ else }}{{ $repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "driftline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "driftline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Variables: settings as text, files as paths, the model's place. Arguments: root, settings, files, model. */ -}}
{{- define "driftline.env" -}}
{{- range $name, $value := .settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- range $name, $_ := .files }}
- {name: {{ $name }}, value: /run/driftline/{{ $name }}}
{{- end }}
{{- if and .model (eq .root.Values.model.from "address") }}
- {name: SCORER_MODEL, value: {{ .root.Values.model.address | quote }}}
{{- end }}
{{- with .root.Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "driftline.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- if .model }}
{{- if eq .root.Values.model.from "claim" }}
- name: model
  persistentVolumeClaim: {claimName: {{ .root.Values.model.claim | quote }}, readOnly: true}
{{- else if eq .root.Values.model.from "image" }}
- name: model
  image: {reference: {{ .root.Values.model.image | quote }}, pullPolicy: {{ .root.Values.image.pullPolicy }}}
{{- end }}
{{- end }}
{{- if .files }}
- name: files
  projected:
    # readable by the group (fsGroup) alone
    defaultMode: 0440
    sources:
      {{- range $name, $from := .files }}
      {{- if $from.secret }}
      - secret: {name: {{ $from.secret | quote }}, items: [{key: {{ $from.key | quote }}, path: {{ $name }}}]}
      {{- else if $from.configMap }}
      - configMap: {name: {{ $from.configMap | quote }}, items: [{key: {{ $from.key | quote }}, path: {{ $name }}}]}
      {{- else }}
      - serviceAccountToken: {audience: {{ $from.tokenAudience | quote }}, expirationSeconds: 3600, path: {{ $name }}}
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}

{{- define "driftline.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if and .model (ne .root.Values.model.from "address") }}
- {name: model, mountPath: /model, readOnly: true}
{{- end }}
{{- if .files }}
- {name: files, mountPath: /run/driftline, readOnly: true}
{{- end }}
{{- end }}

{{- /* Deployment, Service and PodDisruptionBudget of one service.
Arguments: root, component, image, digest, command, port, values, replicas (nil: KEDA's). */ -}}
{{- define "driftline.service" -}}
{{- $root := .root }}
{{- $name := printf "%s-%s" $root.Release.Name .component }}
{{- $drain := dict "SCORER_DRAIN_TIMEOUT" (printf "%ds" (int $root.Values.drainSeconds)) }}
{{- $settings := merge (dict) .values.settings $root.Values.settings $drain }}
{{- $parts := dict "root" $root "settings" $settings "files" $root.Values.files "model" true }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "driftline.labels" $root | nindent 4 }}
    {{- include "driftline.selector" . | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "driftline.selector" . | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      labels:
        {{- include "driftline.labels" $root | nindent 8 }}
        {{- include "driftline.selector" . | nindent 8 }}
      {{- with .values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "driftline.account" $root }}
      automountServiceAccountToken: false
      # its variables would look like settings
      enableServiceLinks: false
      # more than the drain: whoever is killed leaves its batches to be done again
      terminationGracePeriodSeconds: {{ add (int $root.Values.drainSeconds) 15 }}
      securityContext:
        {{- include "driftline.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "driftline.selector" $ | nindent 14 }}
        {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "driftline.image" . }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: ["driftline", {{ .command | quote }}]
          env:
            {{- include "driftline.env" $parts | trim | nindent 12 }}
          ports:
            - {name: http, containerPort: {{ .port }}}
          # a model may take a while to load
          startupProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 2
            timeoutSeconds: 4
            failureThreshold: 90
          # fails only where a restart helps: a broker that is away, or a missing right, does not
          livenessProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 10
            timeoutSeconds: 4
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 4
            failureThreshold: 3
          securityContext:
            {{- include "driftline.containerSecurity" $root | nindent 12 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            {{- include "driftline.mounts" $parts | trim | nindent 12 }}
      volumes:
        {{- include "driftline.volumes" $parts | trim | nindent 8 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "driftline.labels" $root | nindent 4 }}
    {{- include "driftline.selector" . | nindent 4 }}
spec:
  selector:
    {{- include "driftline.selector" . | nindent 4 }}
  ports:
    - {name: http, port: {{ .port }}, targetPort: http}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- include "driftline.labels" $root | nindent 4 }}
    {{- include "driftline.selector" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "driftline.selector" . | nindent 6 }}
{{- end }}
