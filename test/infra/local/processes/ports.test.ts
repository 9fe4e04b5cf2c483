import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { preferredPort, requireFreePort } from '../../../../infra/local/processes/ports.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

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

test.runIf(process.platform === 'linux')(
  'a port that a process of a copal service uses is an error that names the one that a person can stop',
  async () => {
    const script = join(temporaryDir(), 'infra', 'local', 'start', 'start.ts')
    mkdirSync(dirname(script), { recursive: true })
    const listening = `require('net').createServer().listen(0, '127.0.0.1', function () { console.log(this.address().port) })`
    writeFileSync(
      script,
      `const { spawn } = require('node:child_process')
      const child = spawn(process.execPath, ['-e', ${JSON.stringify(listening)}], { stdio: ['ignore', 'inherit', 'inherit'] })
      process.on('SIGTERM', () => child.kill())
      child.on('exit', () => process.exit())`,
    )
    const service = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [output] = (await once(service.stdout, 'data')) as [Buffer]
    const error = await requireFreePort(Number(output.toString()), 'COPAL_PORT', 0).catch(String)
    service.kill()
    await once(service, 'exit')
    expect(error).toContain(`by pid ${service.pid} (`)
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
