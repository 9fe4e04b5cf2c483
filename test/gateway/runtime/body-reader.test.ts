import { env } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createApp } from '../../../gateway/src/app.ts'
import { createKey, errorOf, ORIGIN } from '../support/requests/gateway-requests.ts'

test('a client that disconnects while it sends its body causes client_closed_request, which is not logged as a fault', async () => {
  const { key } = await createKey()
  const log = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => log.mockRestore())
  const chunks = [new TextEncoder().encode('{"model":')]
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const chunk = chunks.shift()
      if (chunk) controller.enqueue(chunk)
      else controller.error(new Error('Network connection lost.'))
    },
  })
  const request = new Request(`${ORIGIN}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body,
  })
  const response = await createApp().request(request, {}, env, createExecutionContext())
  expect(response.status).toBe(499)
  expect(await errorOf(response)).toMatchObject({ code: 'client_closed_request' })
  expect(log).not.toHaveBeenCalled()
})
