import { chatCompletion, chatCompletionChunk, chatRequest } from '@copal/shared/wire/chat.ts'
import { completion, completionChunk, completionRequest } from '@copal/shared/wire/completions.ts'
import { embeddingsResponse, embeddingsRequest } from '@copal/shared/wire/embeddings.ts'
import { responseEvent, responseObject } from '@copal/shared/wire/response-object.ts'
import { responsesRequest } from '@copal/shared/wire/responses.ts'
import { modelEntry, modelList } from '@copal/shared/wire/model-list.ts'
import { named, type Operation } from './operation.ts'

/** What applications call. */
export const INFERENCE_OPERATIONS: readonly Operation[] = [
  {
    method: 'post',
    path: '/v1/chat/completions',
    id: 'createChatCompletion',
    tag: 'Inference',
    summary: 'Answers a conversation.',
    key: 'inference',
    body: named('ChatRequest', chatRequest),
    answer: named('ChatCompletion', chatCompletion),
    streams: { event: named('ChatCompletionChunk', chatCompletionChunk), end: '[DONE]' },
    errors: ['unsupported_model'],
  },
  {
    method: 'post',
    path: '/v1/completions',
    id: 'createCompletion',
    tag: 'Inference',
    summary: 'Continues one text or several.',
    key: 'inference',
    body: named('CompletionRequest', completionRequest),
    answer: named('Completion', completion),
    streams: { event: named('CompletionChunk', completionChunk), end: '[DONE]' },
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
    streams: { event: named('ResponseEvent', responseEvent) },
    errors: ['unsupported_model'],
  },
  {
    method: 'post',
    path: '/v1/embeddings',
    id: 'createEmbeddings',
    tag: 'Inference',
    summary: "Embeds texts: the mean of the model's last hidden states, at length 1.",
    key: 'inference',
    body: named('EmbeddingsRequest', embeddingsRequest),
    answer: named('Embeddings', embeddingsResponse),
  },
  {
    method: 'get',
    path: '/v1/models',
    id: 'listModels',
    tag: 'Inference',
    summary:
      'Lists the models that the key may use, each followed by those of its weights that can be named now.',
    key: 'inference',
    answer: named('ModelList', modelList),
  },
  {
    method: 'get',
    path: '/v1/models/{id}',
    id: 'getModel',
    tag: 'Inference',
    summary: 'Gives one of them.',
    key: 'inference',
    answer: named('Model', modelEntry),
    errors: ['model_not_found'],
  },
]
