import { contentText, type ChatMessage, type ChatRequest } from '@copal/shared/wire/chat.ts'
import type { ResponseFormat } from '@copal/shared/wire/response-format.ts'
import type { Tool, ToolCall } from '@copal/shared/wire/tools.ts'
import { CALL_BEGIN, CALL_END } from '../../grammar/tool-grammar.ts'
import { schemaOf } from '../../grammar/json-grammar.ts'
import type { ChatTurn } from '../../../model/tokenizer/chat-template.ts'
import type { TextCodec } from '../../../model/tokenizer/text-codec.ts'

/** A chat message. Messages of other APIs have only a role and text. */
type Message = Pick<ChatMessage, 'role' | 'content'> & {
  tool_calls?: readonly ToolCall[] | null | undefined
  tool_call_id?: string | undefined
}

/**
 * Renders the prompt of a chat from its messages, the tools that may be called, and the requested format.
 *
 * A template that supports tools receives them. For other templates the system message describes the tools, and calls
 * and their results are written in the format of Hermes and Qwen.
 *
 * @throws AppError `invalid_request` when the template rejects the conversation
 */
export function chatPrompt(
  codec: Pick<TextCodec, 'renderChat' | 'rendersTools'>,
  request: { messages: readonly Message[]; response_format?: ChatRequest['response_format'] },
  tools: readonly Tool[],
): string {
  const turns = request.messages.map(codec.rendersTools ? turnOf : plainTurnOf)
  const instructions = [
    ...(tools.length > 0 && !codec.rendersTools ? [toolInstructions(tools)] : []),
    ...formatInstructions(request.response_format),
  ]
  const described = withInstructions(turns, instructions)
  return codec.renderChat(described, codec.rendersTools && tools.length > 0 ? tools : undefined)
}

/** Maps the role; `developer` is OpenAI's newer name for `system`. */
function roleOf({ role }: Message): ChatTurn['role'] {
  return role === 'developer' ? 'system' : role
}

function turnOf(message: Message): ChatTurn {
  const turn: ChatTurn = { role: roleOf(message), content: contentText(message.content) }
  if (message.tool_call_id !== undefined) return { ...turn, tool_call_id: message.tool_call_id }
  if (!message.tool_calls?.length) return turn
  const calls = message.tool_calls.map((call) => ({
    ...call,
    function: { name: call.function.name, arguments: parseArguments(call.function.arguments) },
  }))
  return { ...turn, tool_calls: calls }
}

/** Converts a message for templates that support text only. */
function plainTurnOf(message: Message): ChatTurn {
  const content = contentText(message.content)
  if (message.role === 'tool')
    return { role: 'user', content: `<tool_response>\n${content}\n</tool_response>` }
  if (!message.tool_calls?.length) return { role: roleOf(message), content }
  const calls = message.tool_calls.map(
    ({ function: { name, arguments: text } }) =>
      `${CALL_BEGIN}\n{"name": ${JSON.stringify(name)}, "arguments": ${text || NO_ARGUMENTS}}\n${CALL_END}`,
  )
  return { role: 'assistant', content: [...(content === '' ? [] : [content]), ...calls].join('\n') }
}

/** Arguments of a call without any; clients also send an empty text for them. */
const NO_ARGUMENTS = '{}'

/** Parses the arguments of a call, which templates write as JSON; returns the text itself when it is not JSON. */
function parseArguments(text: string): unknown {
  try {
    return JSON.parse(text || NO_ARGUMENTS)
  } catch {
    return text
  }
}

function toolInstructions(tools: readonly Tool[]): string {
  const signatures = tools.map((tool) => JSON.stringify(tool))
  return [
    'You may call functions to help with the query. Their signatures are:',
    '<tools>',
    ...signatures,
    '</tools>',
    'To call one, answer with its name and arguments like this:',
    CALL_BEGIN,
    '{"name": <function name>, "arguments": <arguments as JSON>}',
    CALL_END,
  ].join('\n')
}

function formatInstructions(format: ResponseFormat | null | undefined): string[] {
  const schema = schemaOf(format)
  if (!schema || !format) return []
  if (format.type !== 'json_schema') return ['Answer with a JSON object.']
  const { name, description } = format.json_schema
  const about = description ? `${name}: ${description}` : name
  return [`Answer with JSON (${about}) that fits this schema:\n${JSON.stringify(schema)}`]
}

/** Appends instructions to the system message, or inserts a system message when there is none. */
function withInstructions(turns: readonly ChatTurn[], instructions: readonly string[]): readonly ChatTurn[] {
  if (instructions.length === 0) return turns
  const [first, ...rest] = turns
  const text = instructions.join('\n\n')
  if (first?.role !== 'system') return [{ role: 'system', content: text }, ...turns]
  return [{ ...first, content: `${first.content}\n\n${text}` }, ...rest]
}
