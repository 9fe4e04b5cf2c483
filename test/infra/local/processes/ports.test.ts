import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { preferredPort, requireFreePort } from '../../../../infra/local/processes/ports.ts'

async function listen() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { server, port: address.port }
}

test('a port in use is an error that names the variable to change', async () => {
  const { server, port } = await listen()
  const error = await requireFreePort(port, 'COPAL_PORT', 0).catch((reason: unknown) => String(reason))
  server.close()
  expect(error).toContain(`Port ${port} is in use`)
  expect(error).toContain('set COPAL_PORT to another port')
})

test.runIf(process.platform === 'linux')(
  'a port in use is an error that names the process using it',
  async () => {
    const { server, port } = await listen()
    const error = await requireFreePort(port, 'COPAL_PORT', 0).catch((reason: unknown) => String(reason))
    server.close()
    expect(error).toContain(`by pid ${process.pid} (`)
  },
)

test('a port that is released in time is accepted', async () => {
  const { server, port } = await listen()
  setTimeout(() => server.close(), 250)
  await expect(requireFreePort(port, 'COPAL_PORT', 5000)).resolves.toBeUndefined()
})

test('a preferred port is used where it is free, and another one where it is not', async () => {
  const { server, port } = await listen()
  expect(await preferredPort(port)).not.toBe(port)
  server.close()
  await once(server, 'close')
  expect(await preferredPort(port)).toBe(port)
})
