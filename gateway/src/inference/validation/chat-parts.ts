import { contentText, type ChatRequest } from '@copal/shared/wire/chat.ts'

type Prompt = Pick<ChatRequest, 'messages' | 'tools' | 'response_format'>

/** Returns the parts of a chat's prompt, roughly in the order in which the model reads them: tools, format, messages. */
export function chatParts({ messages, tools, response_format: format }: Prompt): string[] {
  const parts = [tools, format].map((value) => (value ? JSON.stringify(value) : ''))
  for (const message of messages) {
    parts.push(message.role, contentText(message.content))
    if ('tool_calls' in message && message.tool_calls) parts.push(JSON.stringify(message.tool_calls))
  }
  return parts
}
