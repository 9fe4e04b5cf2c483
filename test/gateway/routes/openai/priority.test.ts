import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { createLimitedKey } from '../../support/requests/limited-requests.ts'

test.each(['/v1/chat/completions', '/v1/embeddings'])(
  'an unknown priority is an invalid request at %s that costs no call of the fleet, also of a limited key',
  async (path) => {
    const { key } = await createLimitedKey({ requests_per_minute: 1 })
    let calls = 0
    const fleet = new Proxy(env.FLEET, {
      get(target, name) {
        if (name === 'get') calls += 1
        const value: unknown = Reflect.get(target, name)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const ctx = createExecutionContext()
    const request = new Request(ORIGIN + path, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${key}`,
        'content-type': 'application/json',
        'x-copal-priority': 'urgent',
      },
      body: JSON.stringify({
        model: 'tiny',
        input: 'Hello.',
        messages: [{ role: 'user', content: 'Hello.' }],
      }),
    })
    const response = await createApp().fetch(request, { ...env, FLEET: fleet }, ctx)
    expect([response.status, (await errorOf(response)).param]).toEqual([400, 'x-copal-priority'])
    await waitOnExecutionContext(ctx)
    expect(calls).toBe(0)
  },
)
