import { env, exports } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { sendHeartbeat } from '../../support/requests/gateway-requests.ts'

test('health needs no key and counts the live nodes', async () => {
  const response = await exports.default.fetch('http://gateway/health')
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual({ status: 'ok', nodes_alive: 0 })
  expect(response.headers.get('x-request-id')).toMatch(/^req_[0-9a-f]{32}$/)
})

test('health queries the fleet once a second at most', async () => {
  const get = vi.fn<(id: DurableObjectId) => DurableObjectStub>((id) => env.FLEET.get(id))
  const bindings = { ...env, FLEET: { idFromName: (name: string) => env.FLEET.idFromName(name), get } }
  const app = createApp()
  const alive = async () => {
    const response = await app.request('/health', {}, bindings, createExecutionContext())
    return (await response.json<{ nodes_alive: number }>()).nodes_alive
  }
  const now = Date.now()
  const clock = vi.spyOn(Date, 'now').mockReturnValue(now)
  onTestFinished(() => clock.mockRestore())
  expect(await alive()).toBe(0)
  await sendHeartbeat({ id: 'healthy-1', url: 'http://127.0.0.1:9' }, 'healthy')
  for (let call = 0; call < 20; call += 1) expect(await alive()).toBe(0)
  expect(get).toHaveBeenCalledOnce()
  clock.mockReturnValue(now + 1_000)
  expect(await alive()).toBe(1)
})
