import type { $ZodObject, $ZodType } from 'zod/v4/core'
import { createUpdate, evaluateText, importTexts, rollback } from '@copal/shared/wire/admin.ts'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { completionRequest } from '@copal/shared/wire/completions.ts'
import { embeddingsAnswer, embeddingsRequest } from '@copal/shared/wire/embeddings.ts'
import { createKey, rotateKey, setLimits } from '@copal/shared/wire/keys.ts'
import { importMask } from '@copal/shared/wire/mask-import.ts'
import { joinMaskParts } from '@copal/shared/wire/mask-parts.ts'
import { responseObject } from '@copal/shared/wire/response-object.ts'
import { responsesRequest } from '@copal/shared/wire/responses.ts'
import { startTrial } from '@copal/shared/wire/trials.ts'
import { chatAnswer, completionAnswer, healthAnswer, modelAnswer, modelListAnswer } from './answers.ts'

/** A schema with the name that it has among the document's components. */
export interface NamedSchema {
  name: string
  schema: $ZodType
}

/** One route, as the OpenAPI document and the reference page tell of it. */
export interface Operation {
  method: 'get' | 'post' | 'put' | 'patch' | 'delete'
  /** Parameters in braces. */
  path: string
  id: string
  tag: 'Inference' | 'Keys and tenants' | 'Adaptation' | 'Service'
  summary: string
  /** Which key opens it; nothing is needed for `none`. */
  key: 'inference' | 'read-metrics' | 'admin' | 'operator' | 'none'
  query?: Record<string, string>
  /** The same, as a schema of its fields. */
  querySchema?: $ZodObject
  body?: NamedSchema
  /** A file is taken as it is. */
  takesFile?: true
  answer:
    | NamedSchema
    | 'json'
    | 'text/plain'
    | 'text/html'
    | 'application/octet-stream'
    | 'application/x-ndjson'
  /** Of success, when it is not 200. */
  status?: 201
  /** With `stream: true` the answer is server-sent events. */
  streams?: true
}

const named = (name: string, schema: $ZodType): NamedSchema => ({ name, schema })
const ofModel = { model: 'May be left out when there is one.' }

/** Every route but those of nodes, in the order of the reference page. */
export const OPERATIONS: readonly Operation[] = [
  {
    method: 'post',
    path: '/v1/chat/completions',
    id: 'createChatCompletion',
    tag: 'Inference',
    summary: 'Answers a conversation.',
    key: 'inference',
    body: named('ChatRequest', chatRequest),
    answer: named('ChatCompletion', chatAnswer),
    streams: true,
  },
  {
    method: 'post',
    path: '/v1/completions',
    id: 'createCompletion',
    tag: 'Inference',
    summary: 'Continues one text or several.',
    key: 'inference',
    body: named('CompletionRequest', completionRequest),
    answer: named('Completion', completionAnswer),
    streams: true,
  },
  {
    method: 'post',
    path: '/v1/responses',
    id: 'createResponse',
    tag: 'Inference',
    summary: 'Answers a conversation in the shape of the Responses API; nothing is stored.',
    key: 'inference',
    body: named('ResponsesRequest', responsesRequest),
    answer: named('Response', responseObject),
    streams: true,
  },
  {
    method: 'post',
    path: '/v1/embeddings',
    id: 'createEmbeddings',
    tag: 'Inference',
    summary: "Embeds texts: the mean of the model's last hidden states, at length 1.",
    key: 'inference',
    body: named('EmbeddingsRequest', embeddingsRequest),
    answer: named('Embeddings', embeddingsAnswer),
  },
  {
    method: 'get',
    path: '/v1/models',
    id: 'listModels',
    tag: 'Inference',
    summary:
      'Lists the models that the key may use, each followed by those of its weights that can be named now.',
    key: 'inference',
    answer: named('ModelList', modelListAnswer),
  },
  {
    method: 'get',
    path: '/v1/models/{id}',
    id: 'getModel',
    tag: 'Inference',
    summary: 'Gives one of them.',
    key: 'inference',
    answer: named('Model', modelAnswer),
  },
  {
    method: 'post',
    path: '/admin/keys',
    id: 'createKey',
    tag: 'Keys and tenants',
    summary: 'Makes an API key; the answer is the only place that shows it.',
    key: 'admin',
    body: named('CreateKey', createKey),
    answer: 'json',
    status: 201,
  },
  {
    method: 'get',
    path: '/admin/keys',
    id: 'listKeys',
    tag: 'Keys and tenants',
    summary: 'Lists API keys.',
    key: 'admin',
    query: { tenant: 'Only those of one tenant.' },
    answer: 'json',
  },
  {
    method: 'post',
    path: '/admin/keys/{id}/rotate',
    id: 'rotateKey',
    tag: 'Keys and tenants',
    summary: 'Gives a key a new secret; the old one stays valid for a while.',
    key: 'admin',
    body: named('RotateKey', rotateKey),
    answer: 'json',
  },
  {
    method: 'patch',
    path: '/admin/keys/{id}',
    id: 'setKeyLimits',
    tag: 'Keys and tenants',
    summary: 'Changes the limits of a key.',
    key: 'admin',
    body: named('SetLimits', setLimits),
    answer: 'json',
  },
  {
    method: 'delete',
    path: '/admin/keys/{id}',
    id: 'revokeKey',
    tag: 'Keys and tenants',
    summary: 'Revokes a key.',
    key: 'admin',
    answer: 'json',
  },
  {
    method: 'get',
    path: '/admin/tenants',
    id: 'listTenants',
    tag: 'Keys and tenants',
    summary: 'Lists tenants with their limits.',
    key: 'admin',
    answer: 'json',
  },
  {
    method: 'put',
    path: '/admin/tenants/{tenant}',
    id: 'putTenant',
    tag: 'Keys and tenants',
    summary: 'Makes a tenant, or changes its limits.',
    key: 'operator',
    body: named('SetLimits', setLimits),
    answer: 'json',
  },
  {
    method: 'get',
    path: '/admin/tenants/{tenant}/cache',
    id: 'getTenantCache',
    tag: 'Keys and tenants',
    summary: "What a tenant's response cache holds, and how often it had the answer.",
    key: 'admin',
    answer: 'json',
  },
  {
    method: 'delete',
    path: '/admin/tenants/{tenant}/cache',
    id: 'clearTenantCache',
    tag: 'Keys and tenants',
    summary: "Deletes all answers of a tenant's response cache.",
    key: 'admin',
    answer: 'json',
  },
  {
    method: 'get',
    path: '/admin/status',
    id: 'getStatus',
    tag: 'Adaptation',
    summary: 'Models, nodes and what they serve.',
    key: 'operator',
    answer: 'json',
  },
  {
    method: 'get',
    path: '/admin/domains',
    id: 'listDomains',
    tag: 'Adaptation',
    summary: 'Lists domains with their samples.',
    key: 'operator',
    answer: 'json',
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/texts',
    id: 'importTexts',
    tag: 'Adaptation',
    summary: "Adds an operator's own texts to a domain, redacted and sampled like traffic.",
    key: 'operator',
    body: named('ImportTexts', importTexts),
    answer: 'json',
    status: 201,
  },
  {
    method: 'delete',
    path: '/admin/domains/{domain}/samples',
    id: 'deleteSamples',
    tag: 'Adaptation',
    summary: 'Deletes the samples of one key in a domain.',
    key: 'operator',
    query: { key: 'The id of the key.' },
    answer: 'json',
  },
  {
    method: 'delete',
    path: '/admin/domains/{domain}',
    id: 'deleteDomain',
    tag: 'Adaptation',
    summary: 'Deletes everything that is stored of a domain.',
    key: 'operator',
    answer: 'json',
  },
  {
    method: 'post',
    path: '/admin/updates',
    id: 'createUpdate',
    tag: 'Adaptation',
    summary: 'Starts an update: samples become a new mask.',
    key: 'operator',
    body: named('CreateUpdate', createUpdate),
    answer: 'json',
    status: 201,
  },
  {
    method: 'get',
    path: '/admin/updates',
    id: 'listUpdates',
    tag: 'Adaptation',
    summary: 'Lists updates, newest first.',
    key: 'operator',
    answer: 'json',
  },
  {
    method: 'get',
    path: '/admin/updates/{id}',
    id: 'getUpdate',
    tag: 'Adaptation',
    summary: 'Tells how far an update is.',
    key: 'operator',
    answer: 'json',
  },
  {
    method: 'post',
    path: '/admin/updates/{id}/cancel',
    id: 'cancelUpdate',
    tag: 'Adaptation',
    summary: 'Cancels an update that runs.',
    key: 'operator',
    answer: 'json',
  },
  {
    method: 'get',
    path: '/admin/masks',
    id: 'listMasks',
    tag: 'Adaptation',
    summary: 'Lists the masks of a model.',
    key: 'operator',
    query: ofModel,
    answer: 'json',
  },
  {
    method: 'get',
    path: '/admin/masks/{version}/file',
    id: 'getMaskFile',
    tag: 'Adaptation',
    summary: 'Gives the file of a mask.',
    key: 'operator',
    query: ofModel,
    answer: 'application/octet-stream',
  },
  {
    method: 'put',
    path: '/admin/masks/{sha256}',
    id: 'importMask',
    tag: 'Adaptation',
    summary: 'Registers a mask file, named by its SHA-256.',
    key: 'operator',
    querySchema: importMask,
    takesFile: true,
    answer: 'json',
    status: 201,
  },
  {
    method: 'post',
    path: '/admin/masks/{sha256}',
    id: 'joinMaskParts',
    tag: 'Adaptation',
    summary: 'Registers a mask file whose parts were sent before.',
    key: 'operator',
    querySchema: importMask,
    body: named('JoinMaskParts', joinMaskParts),
    answer: 'json',
    status: 201,
  },
  {
    method: 'put',
    path: '/admin/masks/{sha256}/parts/{part}',
    id: 'putMaskPart',
    tag: 'Adaptation',
    summary: 'Takes one part of a mask file, named by its own SHA-256.',
    key: 'operator',
    takesFile: true,
    answer: 'json',
    status: 201,
  },
  {
    method: 'post',
    path: '/admin/rollback',
    id: 'rollBack',
    tag: 'Adaptation',
    summary: 'Makes the previous mask, or a named one, the active one.',
    key: 'operator',
    body: named('Rollback', rollback),
    answer: 'json',
  },
  {
    method: 'get',
    path: '/admin/canary',
    id: 'getCanary',
    tag: 'Adaptation',
    summary: 'How the mask that a share of the API keys is answered by does beside the active one.',
    key: 'operator',
    query: ofModel,
    answer: 'json',
  },
  {
    method: 'put',
    path: '/admin/canary',
    id: 'startCanary',
    tag: 'Adaptation',
    summary: 'Has a registered mask answer a share of the API keys, until another becomes active.',
    key: 'operator',
    body: named('StartTrial', startTrial),
    answer: 'json',
  },
  {
    method: 'delete',
    path: '/admin/canary',
    id: 'endCanary',
    tag: 'Adaptation',
    summary: 'Has the active mask answer all keys again.',
    key: 'operator',
    query: ofModel,
    answer: 'json',
  },
  {
    method: 'post',
    path: '/admin/evaluate',
    id: 'evaluateText',
    tag: 'Adaptation',
    summary: 'Perplexity of a text under a mask, as lines of progress and a result.',
    key: 'operator',
    body: named('EvaluateText', evaluateText),
    answer: 'application/x-ndjson',
  },
  {
    method: 'get',
    path: '/admin/drift',
    id: 'getDrift',
    tag: 'Adaptation',
    summary: 'What pruning costs per domain and mask: on live traffic and on held-out text.',
    key: 'operator',
    query: ofModel,
    answer: 'json',
  },
  {
    method: 'get',
    path: '/metrics',
    id: 'getMetrics',
    tag: 'Service',
    summary: "Figures in Prometheus' text format: of everything, or of the key's tenant.",
    key: 'read-metrics',
    answer: 'text/plain',
  },
  {
    method: 'get',
    path: '/health',
    id: 'getHealth',
    tag: 'Service',
    summary: 'The gateway runs, and how many nodes it can send requests to.',
    key: 'none',
    answer: named('Health', healthAnswer),
  },
  {
    method: 'get',
    path: '/openapi.json',
    id: 'getOpenApi',
    tag: 'Service',
    summary: 'This document.',
    key: 'none',
    answer: 'json',
  },
  {
    method: 'get',
    path: '/docs',
    id: 'getDocs',
    tag: 'Service',
    summary: 'This document as a page.',
    key: 'none',
    answer: 'text/html',
  },
]
