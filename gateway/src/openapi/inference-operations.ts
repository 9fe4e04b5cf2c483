import { chatCompletion, chatCompletionChunk, chatRequest } from '@copal/shared/wire/chat.ts'
import { completion, completionChunk, completionRequest } from '@copal/shared/wire/completions.ts'
import { embeddingsResponse, embeddingsRequest } from '@copal/shared/wire/embeddings.ts'
import { responseEvent, responseObject } from '@copal/shared/wire/response-object.ts'
import { responsesRequest } from '@copal/shared/wire/responses.ts'
import { modelEntry, modelList } from '@copal/shared/wire/model-list.ts'
import { named, operationsOf } from './operation.ts'

/** The error of a session of the dashboard that names no key. */
const WITHOUT_KEY = ['invalid_request'] as const

/** Operations that applications call. */
export const INFERENCE_OPERATIONS = operationsOf({ tag: 'Inference', key: 'inference' }, [
  {
    method: 'post',
    path: '/v1/chat/completions',
    id: 'createChatCompletion',
    summary: 'Generates the next message of a conversation.',
    body: named('ChatRequest', chatRequest),
    response: named('ChatCompletion', chatCompletion),
    streams: { event: named('ChatCompletionChunk', chatCompletionChunk), end: '[DONE]' },
    errors: ['unsupported_model'],
  },
  {
    method: 'post',
    path: '/v1/completions',
    id: 'createCompletion',
    summary: 'Continues one or several texts.',
    body: named('CompletionRequest', completionRequest),
    response: named('Completion', completion),
    streams: { event: named('CompletionChunk', completionChunk), end: '[DONE]' },
  },
  {
    method: 'post',
    path: '/v1/responses',
    id: 'createResponse',
    summary: 'Generates the next message of a conversation with the Responses API. Responses are not stored.',
    body: named('ResponsesRequest', responsesRequest),
    response: named('Response', responseObject),
    streams: { event: named('ResponseEvent', responseEvent) },
    errors: ['unsupported_model'],
  },
  {
    method: 'post',
    path: '/v1/embeddings',
    id: 'createEmbeddings',
    summary: "Embeds texts: the mean of the model's last hidden states, normalized to length 1.",
    body: named('EmbeddingsRequest', embeddingsRequest),
    response: named('Embeddings', embeddingsResponse),
  },
  {
    method: 'get',
    path: '/v1/models',
    id: 'listModels',
    summary:
      'Lists the models that the key may use, each followed by the mask versions that requests can name now.',
    response: named('ModelList', modelList),
    errors: WITHOUT_KEY,
  },
  {
    method: 'get',
    path: '/v1/models/{id}',
    id: 'getModel',
    summary: 'Returns one model or mask version of that list.',
    response: named('Model', modelEntry),
    errors: ['model_not_found', ...WITHOUT_KEY],
  },
])
