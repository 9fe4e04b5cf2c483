import { env } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import { expect, test, vi } from 'vitest'
import { createApp } from '../../../gateway/src/app.ts'
import { createKey, ORIGIN } from '../support/requests/gateway-requests.ts'

test('an unexpected error is a plain 500 whose stack is only in the log, with the request id in both', async () => {
  const { key } = await createKey()
  const log = vi.spyOn(console, 'error').mockImplementation(() => {})
  const broken = {
    ...env,
    DB: {
      prepare: () => {
        throw new TypeError('secret detail of the database')
      },
    },
  } as unknown
  const app = createApp()
  const ask = (bindings: Cloudflare.Env) =>
    app.request(
      new Request(`${ORIGIN}/v1/models`, { headers: { authorization: `Bearer ${key}` } }),
      {},
      bindings,
      createExecutionContext(),
    )
  // A verified key is cached, so the next request does not look it up.
  expect((await ask(env)).status).toBe(200)
  const response = await ask(broken as Cloudflare.Env)
  expect(response.status).toBe(500)
  expect(await response.json()).toEqual({
    error: {
      message: 'Internal error. The cause is in the server log.',
      type: 'server_error',
      param: null,
      code: 'internal_error',
    },
  })
  const logged = log.mock.calls.flat().join(' ')
  expect(logged).toContain('secret detail of the database')
  expect(logged).toContain(response.headers.get('x-request-id'))
  log.mockRestore()
})
