import type { AppError } from '@copal/shared/errors.ts'
import type { FinishReason } from '@copal/shared/wire/chat.ts'
import type { Usage } from '@copal/shared/wire/generation.ts'
import type {
  OutputMessage,
  ResponseEvent,
  ResponseObject,
  ResponsesRequest,
} from '@copal/shared/wire/responses.ts'
import type { AnswerFormat, AnswerHead } from './answer-format.ts'

type WithoutNumber<T> = T extends unknown ? Omit<T, 'sequence_number'> : never

/** `response`, whole and as the events of a stream. Its one output item is a message of one text part. */
export function responseFormat(head: AnswerHead, request: ResponsesRequest): AnswerFormat {
  const itemId = `msg_${head.id.replace(/^resp_/, '')}`
  const place = { item_id: itemId, output_index: 0, content_index: 0 }
  let sequenceNumber = 0
  let text = ''
  let reason: FinishReason = 'stop'

  const event = (fields: WithoutNumber<ResponseEvent>): ResponseEvent => ({
    ...fields,
    sequence_number: sequenceNumber++,
  })
  const part = (): OutputMessage['content'][number] => ({
    type: 'output_text',
    text,
    annotations: [],
    logprobs: [],
  })
  const status = () => (reason === 'length' ? ('incomplete' as const) : ('completed' as const))
  const message = (): OutputMessage => ({
    id: itemId,
    type: 'message',
    status: status(),
    role: 'assistant',
    content: [part()],
  })
  const begun = () => responseOf(head, request, { status: 'in_progress', output: [], usage: null })
  const ended = (usage: Usage) =>
    responseOf(head, request, { status: status(), output: [message()], usage: usageOf(usage) })

  return {
    namesEvents: true,
    whole([choice], usage) {
      text = choice?.text ?? ''
      reason = choice?.reason ?? 'stop'
      return ended(usage)
    },
    opening: () => [
      event({ type: 'response.created', response: begun() }),
      event({ type: 'response.in_progress', response: begun() }),
      event({
        type: 'response.output_item.added',
        output_index: 0,
        item: { ...message(), status: 'in_progress', content: [] },
      }),
      event({ type: 'response.content_part.added', ...place, part: part() }),
    ],
    delta(_choice, delta) {
      if (delta === '') return []
      text += delta
      return [event({ type: 'response.output_text.delta', ...place, delta, logprobs: [] })]
    },
    closing(_choice, why) {
      reason = why
      return [
        event({ type: 'response.output_text.done', ...place, text, logprobs: [] }),
        event({ type: 'response.content_part.done', ...place, part: part() }),
        event({ type: 'response.output_item.done', output_index: 0, item: message() }),
      ]
    },
    ending: (usage) => [event({ type: `response.${status()}`, response: ended(usage) })],
    failure: ({ code, message: why, param }: AppError) => event({ type: 'error', code, message: why, param }),
  }
}

function responseOf(
  { id, created, model, system_fingerprint }: AnswerHead,
  request: ResponsesRequest,
  result: Pick<ResponseObject, 'status' | 'output' | 'usage'>,
): ResponseObject {
  return {
    id,
    object: 'response',
    created_at: created,
    status: result.status,
    background: false,
    error: null,
    incomplete_details: result.status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    metadata: request.metadata ?? {},
    model,
    output: result.output,
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    service_tier: 'default',
    store: false,
    system_fingerprint,
    temperature: request.temperature ?? 1,
    text: { format: { type: 'text' }, verbosity: 'medium' },
    tool_choice: request.tool_choice ?? 'auto',
    tools: [],
    top_logprobs: 0,
    top_p: request.top_p ?? 1,
    truncation: 'disabled',
    usage: result.usage,
    user: request.user ?? null,
  }
}

function usageOf({
  prompt_tokens,
  completion_tokens,
  total_tokens,
  prompt_tokens_details,
}: Usage): ResponseObject['usage'] {
  return {
    input_tokens: prompt_tokens,
    input_tokens_details: prompt_tokens_details,
    output_tokens: completion_tokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens,
  }
}
