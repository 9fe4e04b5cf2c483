import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { nodeEntry, type NodeEntry } from '@copal/shared/wire/admin.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { listOf, type ApiClient } from '../api/api-client.ts'
import { describeFailedJobs, describeForms, nodeTable, requestsOf } from './node-table.ts'
import { counted, formatDuration } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addNodeProbes } from './node-probes.ts'
import { addNodeSecret } from './node-secret.ts'
import { wholeNumber } from '../options/option-parsers.ts'

const POLL_MS = 1000
/** Longer than most requests take. */
const DEFAULT_WAIT_S = 600

export function addNodes(program: Command, session: Session): void {
  const nodes = program
    .command('nodes')
    .description('list nodes, the masks they serve, their load, memory and device')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  npx copal nodes\n  npx copal nodes secret node-2')
    .action(async ({ json }: { json?: boolean }) => {
      const data = await listNodes(session.client())
      session.print(json, data, () =>
        data.length === 0
          ? 'No node has registered yet.'
          : [nodeTable(data, session), describeForms(data), describeFailedJobs(data, Date.now())]
              .filter(Boolean)
              .join('\n\n'),
      )
    })
  addNodeSecret(nodes, session)
  addNodeProbes(nodes, session)
}

export function addDrain(program: Command, session: Session): void {
  program
    .command('drain')
    .description(
      'stop sending requests to a node and wait until its requests are done, so that it can be stopped',
    )
    .argument('<node>', 'name of the node, see npx copal nodes')
    .option('--no-wait', 'return at once')
    .option('--timeout <seconds>', 'maximum time to wait', wholeNumber, DEFAULT_WAIT_S)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal drain node-1\n  npx copal drain node-1 --no-wait\n  npx copal undrain node-1',
    )
    .action(async (id: string, options: { wait: boolean; timeout: number; json?: boolean }) => {
      const client = session.client()
      let node = await client.admin('PUT', drainPath(id), nodeEntry)
      if (options.wait) node = await untilIdle(client, node, options.timeout, session)
      session.print(options.json, node, () => describeDrained(node))
    })
  program
    .command('undrain')
    .description('send requests to a drained node again')
    .argument('<node>', 'name of the node, see npx copal nodes')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal undrain node-1')
    .action(async (id: string, { json }: { json?: boolean }) => {
      const node = await session.client().admin('DELETE', drainPath(id), nodeEntry)
      session.print(json, node, () =>
        node.draining ? `${id} is still draining: it is about to stop.` : `${id} takes requests again.`,
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
 * Waits until a drained node has no requests. A node that has gone has none.
 *
 * @throws UserError `timeout` when it takes too long; the node stays drained
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
  let reported = -1
  while (requestsOf(node) > 0) {
    const left = requestsOf(node)
    if (left !== reported) terminal.stderr.write(`${id} still has ${counted(left, 'request')} …\n`)
    reported = left
    if (Date.now() >= untilMs)
      throw new UserError(
        'timeout',
        `${id} still has ${counted(left, 'request')} after ${formatDuration(timeoutS * 1000)}. It stays drained. Wait longer with ` +
          `'npx copal drain ${id}', or stop the node: its requests then end with an error.`,
      )
    await sleep(POLL_MS, undefined, { signal: terminal.signal }).catch(() => {
      throw new UserError('interrupted', `Interrupted. ${id} stays drained. See: npx copal nodes`)
    })
    const found = (await listNodes(client)).find((each) => each.id === id)
    if (!found) return { ...node, leases: 0, running: 0, waiting: 0 }
    if (!found.draining) throw new UserError('conflict', `${id} was undrained by another command meanwhile.`)
    node = found
  }
  return node
}

function describeDrained(node: NodeEntry): string {
  const left = requestsOf(node)
  const what = left === 0 ? 'has none left, so it can be stopped' : `still has ${counted(left, 'request')}`
  return `${node.id} gets no new requests and ${what}. To undo this: npx copal undrain ${node.id}`
}
