import { exports } from 'cloudflare:workers'
import { expect, test } from 'vitest'

test('health answers without a key and counts the live nodes', async () => {
  const response = await exports.default.fetch('http://gateway/health')
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual({ status: 'ok', nodes_alive: 0 })
  expect(response.headers.get('x-request-id')).toMatch(/^req_[0-9a-f]{32}$/)
})
