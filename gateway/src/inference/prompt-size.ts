import { contentText, type ChatRequest } from '@copal/shared/wire/chat.ts'

/** Characters that a chat's prompt is made of, as far as the gateway knows: messages, tools and the format's schema. */
export function promptCharacters({
  messages,
  tools,
  response_format: format,
}: Pick<ChatRequest, 'messages' | 'tools' | 'response_format'>): number {
  const texts = messages.reduce((total, { content }) => total + contentText(content).length, 0)
  const told = [
    tools,
    format,
    ...messages.map((message) => ('tool_calls' in message ? message.tool_calls : null)),
  ]
  return told.reduce((total, value) => total + (value ? JSON.stringify(value).length : 0), texts)
}
