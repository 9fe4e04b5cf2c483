import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

const GATEWAY_SECRET = 'the secret of the gateway'

async function copal(args: string[], env: Record<string, string> = {}, cwd = '/') {
  const terminal = recordedTerminal({ env, cwd })
  const code = await runCommand(['nodes', 'secret', ...args], terminal)
  return { code, stdout: terminal.output(), stderr: terminal.errors() }
}

test('the secret of a node is derived from that of the gateway in a file, the environment or a home', async () => {
  const dir = temporaryDir()
  writeFileSync(join(dir, '.env.deploy'), `KEY_PEPPER=x\nNODE_SECRET="${GATEWAY_SECRET}"\n`)
  writeFileSync(join(dir, 'gateway.env'), `NODE_SECRET=${GATEWAY_SECRET}\n`)
  const secret = await nodeSecret(GATEWAY_SECRET, 'node-2')
  const printed = { code: 0, stdout: `${secret}\n`, stderr: '' }
  const other = { NODE_SECRET: 'another secret than that' }
  expect(await copal(['node-2', '--secrets-file', '.env.deploy'], other, dir)).toEqual(printed)
  expect(await copal(['node-2'], { NODE_SECRET: GATEWAY_SECRET })).toEqual(printed)
  expect(await copal(['node-2'], { COPAL_HOME: dir })).toEqual(printed)
  expect(JSON.parse((await copal(['node-2', '--json'], { COPAL_HOME: dir })).stdout)).toEqual({
    node: 'node-2',
    secret,
  })
})

test.each([
  [['node 2'], {}, 2, "1 to 64 letters, digits, '.', '_' or '-'"],
  [['node-2'], { COPAL_HOME: '/nowhere' }, 1, '--secrets-file .env.deploy'],
  [['node-2', '--secrets-file', '/nowhere'], {}, 1, 'nowhere does not exist'],
  [['node-2'], { NODE_SECRET: 'short' }, 1, 'NODE_SECRET in the environment is missing or shorter than 16'],
  [['node-2'], { NODE_SECRET: `node-1:${'5'.repeat(64)}` }, 1, "is the secret of node 'node-1'"],
])('%s with %s is refused', async (args, env, code, message) => {
  const refused = await copal(args, env)
  expect(refused).toMatchObject({ code, stdout: '' })
  expect(refused.stderr).toContain(message)
  expect(refused.stderr).not.toContain('5'.repeat(64))
})
