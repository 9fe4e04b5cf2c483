import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { runCommand } from '../../../gpu-node/src/cli/program.ts'
import { recordedTerminal } from '../../support/terminal.ts'

/** Runs a command against a gateway that answers all alike. */
async function copal(answer: object, ...args: string[]) {
  const server = createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const env = { COPAL_BASE_URL: `http://127.0.0.1:${port}`, COPAL_ADMIN_KEY: 'a' }
  const terminal = recordedTerminal({ env })
  return { code: await runCommand(args, terminal), stdout: terminal.output() }
}

test('of a key of which nothing is there that is said: it may be mistyped', async () => {
  const args = ['domains', 'delete', 'general', '--key', 'key_1']
  const none = { domain: 'general', deleted: 0, deleted_frozen: 0 }
  expect((await copal(none, ...args)).stdout).toMatch(/^Nothing of key_1 was found in general\./)
  expect((await copal({ ...none, deleted: 1, deleted_frozen: 2 }, ...args)).stdout).toBe(
    'Deleted 1 sampled and 2 frozen texts of key_1 from general.\n',
  )
})
