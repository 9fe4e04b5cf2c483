import type { ToolCall } from './tools.ts'

/** The fields of a conversation's message that tell whether tool calls and their outputs are in order. */
interface OrderedMessage {
  role: string
  tool_calls?: readonly ToolCall[] | null | undefined
  tool_call_id?: string
}

/**
 * Checks that `tool` messages answer calls of the assistant message before them, and that all of its calls are answered before another
 * message comes, as OpenAI does. The last calls of a conversation may be unanswered.
 *
 * @returns the field of the first wrong message and the reason, in OpenAI's words; undefined if there is none
 */
export function findToolMessageError(
  messages: readonly OrderedMessage[],
): { path: (string | number)[]; message: string } | undefined {
  let called = new Set<string>()
  let answered = new Set<string>()
  for (const [index, { role, tool_calls: calls, tool_call_id: id = '' }] of messages.entries()) {
    if (role === 'tool') {
      if (called.size === 0)
        return {
          path: [index, 'role'],
          message: "messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
        }
      if (!called.has(id))
        return {
          path: [index, 'tool_call_id'],
          message: `'tool_call_id' of '${id}' not found in 'tool_calls' of previous message`,
        }
      answered.add(id)
      continue
    }
    const missing = [...called].filter((each) => !answered.has(each))
    if (missing.length > 0)
      return {
        path: [index, 'role'],
        message:
          "an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. " +
          `The following tool_call_ids did not have response messages: ${missing.join(', ')}`,
      }
    called = new Set((calls ?? []).map((call) => call.id))
    answered = new Set()
  }
  return undefined
}
