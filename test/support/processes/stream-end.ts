import type { ErrorBody } from '@copal/shared/errors.ts'

/** How the answer of a request that is streamed ended, as {@link readEnd} tells it; its status and text where it is none. */
export async function endOf(response: Response): Promise<string> {
  if (!response.ok || !response.body) return `HTTP ${response.status}: ${await response.text()}`
  return readEnd(response.body.getReader(), new Uint8Array())
}

/** How a stream ended: `done`, the code of its error event, `broken off`, or cut without a word. */
export async function readEnd(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  first: Uint8Array,
): Promise<string> {
  const decoder = new TextDecoder()
  let text = decoder.decode(first, { stream: true })
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      text += decoder.decode(value, { stream: true })
    }
  } catch {
    return text.includes('[DONE]') ? 'done' : 'broken off'
  }
  const last =
    text
      .trimEnd()
      .split('\n\n')
      .at(-1)
      ?.replace(/^data: /, '') ?? ''
  if (last === '[DONE]') return 'done'
  return last.startsWith('{"error"') ? (JSON.parse(last) as ErrorBody).error.code : `silently cut: ${last}`
}
