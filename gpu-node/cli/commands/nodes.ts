import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { nodeEntry, type NodeEntry } from '@copal/shared/wire/admin.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { listOf, type ApiClient } from '../api/api-client.ts'
import { nodeTable, requestsOf } from './node-table.ts'
import { counted, formatDuration } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addNodeSecret } from './node-secret.ts'
import { wholeNumber } from '../options/option-parsers.ts'

const POLL_MS = 1000
/** Longer than most answers take. */
const DEFAULT_WAIT_S = 600

export function addNodes(program: Command, session: Session): void {
  const nodes = program
    .command('nodes')
    .description('nodes, what they serve and how much they do')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  copal nodes\n  copal nodes secret node-2')
    .action(async ({ json }: { json?: boolean }) => {
      const data = await listNodes(session.client())
      session.print(json, data, () =>
        data.length === 0 ? 'No node has registered yet.' : nodeTable(data, session),
      )
    })
  addNodeSecret(nodes, session)
}

export function addDrain(program: Command, session: Session): void {
  program
    .command('drain')
    .description(
      'have a node take no new requests, and wait until those it has are done: then it can be stopped',
    )
    .argument('<node>', "its name, as 'copal nodes' lists it")
    .option('--no-wait', 'do not wait')
    .option('--timeout <seconds>', 'wait so long at most', wholeNumber, DEFAULT_WAIT_S)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  copal drain node-1\n  copal drain node-1 --no-wait\n  copal undrain node-1',
    )
    .action(async (id: string, options: { wait: boolean; timeout: number; json?: boolean }) => {
      const client = session.client()
      let node = await client.admin('PUT', drainPath(id), nodeEntry)
      if (options.wait) node = await untilIdle(client, node, options.timeout, session)
      session.print(options.json, node, () => describeDrained(node))
    })
  program
    .command('undrain')
    .description('have a node that was drained take requests again')
    .argument('<node>', "its name, as 'copal nodes' lists it")
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  copal undrain node-1')
    .action(async (id: string, { json }: { json?: boolean }) => {
      const node = await session.client().admin('DELETE', drainPath(id), nodeEntry)
      session.print(json, node, () =>
        node.draining ? `${id} drains by itself: it is about to end.` : `${id} takes requests again.`,
      )
    })
}

function drainPath(id: string): string {
  return `/nodes/${encodeURIComponent(id)}/drain`
}

async function listNodes(client: ApiClient): Promise<NodeEntry[]> {
  return (await client.admin('GET', '/nodes', listOf(nodeEntry))).data
}

/**
 * Waits until a drained node has no requests. One that is gone has none either.
 *
 * @throws UserError `timeout` when it takes too long; it stays drained
 */
async function untilIdle(
  client: ApiClient,
  drained: NodeEntry,
  timeoutS: number,
  { terminal }: Session,
): Promise<NodeEntry> {
  const { id } = drained
  const untilMs = Date.now() + timeoutS * 1000
  let node = drained
  let told = -1
  while (requestsOf(node) > 0) {
    const left = requestsOf(node)
    if (left !== told) terminal.stderr.write(`${id} still has ${counted(left, 'request')} …\n`)
    told = left
    if (Date.now() >= untilMs)
      throw new UserError(
        'timeout',
        `${id} still has ${counted(left, 'request')} after ${formatDuration(timeoutS * 1000)}. It stays drained: wait with ` +
          `'copal drain ${id}', or stop it, and its requests end with an error.`,
      )
    await sleep(POLL_MS, undefined, { signal: terminal.signal }).catch(() => {
      throw new UserError('interrupted', `Interrupted; ${id} stays drained. See: copal nodes`)
    })
    const found = (await listNodes(client)).find((each) => each.id === id)
    if (!found) return { ...node, leases: 0, running: 0, waiting: 0 }
    if (!found.draining) throw new UserError('conflict', `${id} was undrained by somebody else meanwhile.`)
    node = found
  }
  return node
}

function describeDrained(node: NodeEntry): string {
  const left = requestsOf(node)
  const what = left === 0 ? 'has no requests and can be stopped' : `still has ${counted(left, 'request')}`
  return `${node.id} takes no new requests, ${what}. To take it back: copal undrain ${node.id}`
}
