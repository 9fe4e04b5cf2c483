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
import type { OutputFormat, OutputHead } from './output-format.ts'
import { createOutputItems } from './response-items.ts'

/**
 * Formats `response`, in one piece and as the events of a stream.
 *
 * @param callsTools whether the output may call tools
 */
export function responseFormat(
  head: OutputHead,
  request: ResponsesRequest,
  callsTools: boolean,
): OutputFormat {
  const output = createOutputItems(head.id.replace(/^resp_/, ''), callsTools)
  let sequenceNumber = 0
  let reason: FinishReason = 'stop'

  const event = (fields: ResponseEventFields): ResponseEvent => ({
    ...fields,
    sequence_number: sequenceNumber++,
  })
  const status = () => (reason === 'length' ? ('incomplete' as const) : ('completed' as const))
  const inProgress = () => responseOf(head, request, { status: 'in_progress', output: [], usage: null })
  const ended = (usage: Usage) =>
    responseOf(head, request, { status: status(), output: [...output.items], usage: usageOf(usage) })

  return {
    namesEvents: true,
    body([choice], usage) {
      reason = choice?.reason ?? 'stop'
      output.write(choice?.text ?? '')
      output.end(reason)
      return ended(usage)
    },
    start: () => [
      event({ type: 'response.created', response: inProgress() }),
      event({ type: 'response.in_progress', response: inProgress() }),
    ],
    delta: (_choice, delta) => output.write(delta).map(event),
    endChoice(_choice, finishReason) {
      reason = finishReason
      return output.end(finishReason).map(event)
    },
    end: (usage) => [event({ type: `response.${status()}`, response: ended(usage) })],
    error: (error) => event(responseErrorEvent(error)),
  }
}

function responseOf(
  { id, created, model, system_fingerprint }: OutputHead,
  request: ResponsesRequest,
  result: Pick<ResponseObject, 'status' | 'output' | 'usage'>,
): ResponseObject {
  return {
    id,
    object: 'response',
    created_at: created,
    // Must precede all text of the client: the gateway searches for it at the start.
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

/** Returns the requested format. A schema is always followed, so it is strict. */
function formatOf({ text }: ResponsesRequest): ResponseObject['text']['format'] {
  const format = text?.format ?? { type: 'text' as const }
  return format.type === 'json_schema' ? { ...format, strict: true } : format
}

function toolOf({ type, name, description, parameters }: ResponseTool): ResponseTool {
  return { type, name, description: description ?? null, parameters: parameters ?? null, strict: true }
}
