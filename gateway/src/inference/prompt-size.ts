import { contentText, type ChatRequest } from '@copal/shared/wire/chat.ts'

type Prompt = Pick<ChatRequest, 'messages' | 'tools' | 'response_format'>

/** Characters that a chat's prompt is made of, as far as the gateway knows: messages, tools and the format's schema. */
export function promptCharacters({ messages, tools, response_format: format }: Prompt): number {
  const texts = messages.reduce((total, { content }) => total + contentText(content).length, 0)
  const told = [
    tools,
    format,
    ...messages.map((message) => ('tool_calls' in message ? message.tool_calls : null)),
  ]
  return told.reduce((total, value) => total + (value ? JSON.stringify(value).length : 0), texts)
}

/** What a chat's prompt is made of, about in the order in which the model reads it: what it is told, then the messages. */
export function chatParts({ messages, tools, response_format: format }: Prompt): string[] {
  const parts = [tools, format].map((value) => (value ? JSON.stringify(value) : ''))
  for (const message of messages) {
    parts.push(message.role, contentText(message.content))
    if ('tool_calls' in message && message.tool_calls) parts.push(JSON.stringify(message.tool_calls))
  }
  return parts
}
