import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, expect, test, vi } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'

const overrides: object[] = []
const gateway = createServer((request, response) => {
  void text(request).then((body) => {
    if (request.method === 'PUT') overrides.push(JSON.parse(body) as object)
    const policy = PRESETS.local
    const report = {
      model: 'm',
      revision: 0,
      policy,
      overrides: {},
      preset_policy: policy,
      deployment_preset: 'local',
    }
    response.setHeader('content-type', 'application/json').end(JSON.stringify(report))
  })
}).listen(0, '127.0.0.1')
await once(gateway, 'listening')
afterAll(() => {
  vi.unstubAllEnvs()
  gateway.close()
})

test('a demo that is interrupted sets the former policy again', async () => {
  vi.stubEnv('COPAL_BASE_URL', `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`)
  vi.stubEnv('COPAL_ADMIN_KEY', 'copal-admin-test')
  const others = process.listeners('SIGINT')
  const { interrupted, withPolicy } = await import('../../../../infra/local/demo/demo-session.ts')
  const interrupt = process.listeners('SIGINT').filter((listener) => !others.includes(listener))
  const work = withPolicy({ triggers: { enabled: false } }, () => {
    for (const listener of interrupt) listener('SIGINT')
    return Promise.reject(interrupted.reason as Error)
  })
  await expect(work).rejects.toThrow('aborted')
  expect(overrides).toEqual([{ triggers: { enabled: false } }, {}])
})
