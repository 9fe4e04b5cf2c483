/**
 * `npm run demo`: shows on the running service, or on one that it starts, how domains adapt by themselves: texts of three kinds
 * from several keys, and no call that starts anything. `--by-hand` shows updates that a person starts, and a mask that the
 * gate rejects.
 */
import type { ChildProcess } from 'node:child_process'
import { parseArgs } from 'node:util'
import { statusReport } from '@copal/shared/wire/admin.ts'
import { UserError, toUserError } from '../../../gpu-node/src/platform/user-error.ts'
import { formatMask } from '../../../gpu-node/src/platform/quantities.ts'
import { demonstrateByHand } from './by-hand.ts'
import { demonstrateByItself } from './by-itself.ts'
import { isServing, startService, stopService, waitForUpdates } from './demo-service.ts'
import { interrupted, print, session } from './demo-session.ts'

const HELP = `Usage: npm run demo [-- OPTIONS]

Sends texts of three kinds through the public API with several keys, and shows
how the service finds the domains, updates its mask, judges it and puts it live,
all by itself. Uses the running service, or starts one.

Options:
  --by-hand       start the updates instead, and ask for a mask that the gate
                  must reject
  --texts FOLDER  send a folder's files NAME.calibration.txt instead of texts of
                  this checkout; 'npm run lab:texts -- FOLDER' makes some
  -h, --help      show this help

Settings: COPAL_PORT, COPAL_NODE_PORT, COPAL_HOME, COPAL_CACHE, COPAL_MODEL,
COPAL_BASE_URL. See docs/configuration.md.
`

let service: ChildProcess | undefined
try {
  const { values } = readArguments()
  if (values.help) print(HELP.trimEnd())
  else {
    service = (await isServing()) ? undefined : await startService()
    await waitForUpdates(service !== undefined)
    const started = Date.now()
    const [served] = (await session.client().admin('GET', '/status', statusReport)).models
    if (!served) throw new UserError('no_model', 'No node serves a model. See .copal/node.log.')
    print(`\n${served.id} serves ${formatMask(served.active_version)}.`)
    await (values['by-hand'] ? demonstrateByHand(served.id) : demonstrateByItself(served.id, values.texts))
    print(`\nThe demo took ${((Date.now() - started) / 60_000).toFixed(1)} minutes.`)
  }
} catch (error) {
  const userError = interrupted.aborted
    ? new UserError('interrupted', 'Interrupted.')
    : toUserError(error, process.cwd())
  if (!userError) throw error
  session.terminal.stderr.write(`copal: ${userError.message}\n`)
  process.exitCode = 1
} finally {
  if (service) {
    print(
      'Stopping the service that the demo started. Its masks and domains are kept; npm start serves them.',
    )
    await stopService(service)
  }
}

function readArguments() {
  const options = {
    'by-hand': { type: 'boolean' },
    texts: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  } as const
  try {
    return parseArgs({ options })
  } catch (error) {
    const problem = error instanceof Error ? error.message.split('.')[0] : String(error)
    throw new UserError('invalid_request', `${problem}. See: npm run demo -- --help`)
  }
}
