import type { ErrorBody } from '@copal/shared/errors.ts'

/** Returns how a streamed response ended, see {@link readStreamEnd}, or the status and text of an error response. */
export async function responseEnd(response: Response): Promise<string> {
  if (!response.ok || !response.body) return `HTTP ${response.status}: ${await response.text()}`
  return readStreamEnd(response.body.getReader(), new Uint8Array())
}

/** Returns how a stream ended: `done`, the code of its error event, `broken off`, or `silently cut`. */
export async function readStreamEnd(
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
