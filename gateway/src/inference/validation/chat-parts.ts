import { contentText, type ChatRequest } from '@copal/shared/wire/chat.ts'

type Prompt = Pick<ChatRequest, 'messages' | 'tools' | 'response_format'>

/** What a chat's prompt is made of, about in the order in which the model reads it: what it is told, then the messages. */
export function chatParts({ messages, tools, response_format: format }: Prompt): string[] {
  const parts = [tools, format].map((value) => (value ? JSON.stringify(value) : ''))
  for (const message of messages) {
    parts.push(message.role, contentText(message.content))
    if ('tool_calls' in message && message.tool_calls) parts.push(JSON.stringify(message.tool_calls))
  }
  return parts
}
