import type { FinishReason } from '@copal/shared/wire/chat.ts'
import type { Usage } from '@copal/shared/wire/inference-fields.ts'
import type { ResponseTool } from '@copal/shared/wire/response-input.ts'
import {
  responseErrorEvent,
  type ResponseEvent,
  type ResponseEventFields,
  type ResponseObject,
} from '@copal/shared/wire/response-object.ts'
import type { ResponsesRequest } from '@copal/shared/wire/responses.ts'
import type { AnswerFormat, AnswerHead } from './output-format.ts'
import { createOutputItems } from './response-items.ts'

/**
 * `response`, whole and as the events of a stream.
 *
 * @param callsTools whether the answer may call tools
 */
export function responseFormat(
  head: AnswerHead,
  request: ResponsesRequest,
  callsTools: boolean,
): AnswerFormat {
  const output = createOutputItems(head.id.replace(/^resp_/, ''), callsTools)
  let sequenceNumber = 0
  let reason: FinishReason = 'stop'

  const event = (fields: ResponseEventFields): ResponseEvent => ({
    ...fields,
    sequence_number: sequenceNumber++,
  })
  const status = () => (reason === 'length' ? ('incomplete' as const) : ('completed' as const))
  const begun = () => responseOf(head, request, { status: 'in_progress', output: [], usage: null })
  const ended = (usage: Usage) =>
    responseOf(head, request, { status: status(), output: [...output.items], usage: usageOf(usage) })

  return {
    namesEvents: true,
    whole([choice], usage) {
      reason = choice?.reason ?? 'stop'
      output.write(choice?.text ?? '')
      output.end(reason)
      return ended(usage)
    },
    opening: () => [
      event({ type: 'response.created', response: begun() }),
      event({ type: 'response.in_progress', response: begun() }),
    ],
    delta: (_choice, delta) => output.write(delta).map(event),
    closing(_choice, why) {
      reason = why
      return output.end(why).map(event)
    },
    ending: (usage) => [event({ type: `response.${status()}`, response: ended(usage) })],
    failure: (error) => event(responseErrorEvent(error)),
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
    // Before all that the client wrote: the gateway looks for it at the beginning.
    system_fingerprint,
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
    temperature: request.temperature ?? 1,
    text: { format: formatOf(request), verbosity: 'medium' },
    tool_choice: request.tool_choice ?? 'auto',
    tools: (request.tools ?? []).map(toolOf),
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

/** As it was asked for. A schema is always followed. */
function formatOf({ text }: ResponsesRequest): ResponseObject['text']['format'] {
  const format = text?.format ?? { type: 'text' as const }
  return format.type === 'json_schema' ? { ...format, strict: true } : format
}

function toolOf({ type, name, description, parameters }: ResponseTool): ResponseTool {
  return { type, name, description: description ?? null, parameters: parameters ?? null, strict: true }
}
