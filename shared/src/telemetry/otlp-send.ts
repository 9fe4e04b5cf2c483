/** Where one signal is sent. */
export interface OtlpTarget {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
}

/** Timeout of an export, milliseconds. */
const EXPORT_TIMEOUT_MS = 5_000

/**
 * Sends one OTLP request in JSON, without a retry: data that the collector does not accept is lost.
 *
 * @param body an object to encode as JSON, or encoded JSON
 * @returns the reason of a failure; undefined if the collector accepted it
 */
export async function sendOtlp(
  target: OtlpTarget,
  body: object | Uint8Array<ArrayBuffer>,
): Promise<string | undefined> {
  const { url, headers } = target
  // Some services take their key as a parameter.
  const shown = url.replace(/[?#].*$/s, '')
  try {
    const response = await fetch(url, {
      method: 'POST',
      // Another server must not get the headers, which may have a secret.
      redirect: 'manual',
      headers: { ...headers, 'content-type': 'application/json' },
      body: body instanceof Uint8Array ? body : JSON.stringify(body),
      signal: AbortSignal.timeout(EXPORT_TIMEOUT_MS),
    })
    await response.body?.cancel()
    return response.ok ? undefined : `the collector at ${shown} answered HTTP ${response.status}`
  } catch (error) {
    return `cannot reach the collector at ${shown}: ${String(error).replaceAll(url, shown)}`
  }
}
