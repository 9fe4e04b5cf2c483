import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseEnv } from 'node:util'
import { InvalidArgumentError, type Command } from 'commander'
import { nodeId, nodeIdOfSecret, nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Session } from '../api/session.ts'
import type { Terminal } from '../output/terminal.ts'
import { readTextFile } from '../input/text-file.ts'

/** Adds `copal nodes secret`, which works offline: the gateway's secret never leaves this machine. */
export function addNodeSecret(nodes: Command, session: Session): void {
  nodes
    .command('secret')
    .description("print the secret of a node (COPAL_NODE_SECRET), derived from the gateway's NODE_SECRET")
    .argument('<node>', 'name of the node, unique in the fleet', name)
    .option('--secrets-file <file>', 'the file with NODE_SECRET that npm run deploy was given')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nWithout a file the variable NODE_SECRET is used, or the secret of the service\nin COPAL_HOME.' +
        '\n\nExamples:\n  npx copal nodes secret node-2\n  npx copal nodes secret node-2 --secrets-file .env.deploy',
    )
    .action(async (id: string, { secretsFile }: { secretsFile?: string }, command: Command) => {
      const secret = await nodeSecret(gatewaySecret(session.terminal, secretsFile), id)
      // `copal nodes` has the option too, and Commander assigns the value to it.
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      session.print(json, { node: id, secret }, () => secret)
    })
}

function name(text: string): string {
  if (nodeId.safeParse(text).success) return text
  throw new InvalidArgumentError("A node's name is 1 to 64 letters, digits, '.', '_' or '-'.")
}

/**
 * Returns the gateway's NODE_SECRET.
 *
 * @throws UserError `no_credentials` when it is missing or the secret of a node; as {@link readTextFile} does
 */
function gatewaySecret({ env, cwd, root }: Terminal, file: string | undefined): string {
  const ofHome = join(env.COPAL_HOME || join(root, '.copal'), 'gateway.env')
  const path = file ?? (!env.NODE_SECRET && existsSync(resolve(cwd, ofHome)) ? ofHome : undefined)
  const where = path ?? 'the environment'
  const secret = path === undefined ? env.NODE_SECRET : parseEnv(readTextFile(path, cwd)).NODE_SECRET
  if (secret === undefined || secret.length < 16)
    throw new UserError(
      'no_credentials',
      `The NODE_SECRET in ${where} is missing or shorter than 16 characters. Name the file that the gateway was ` +
        "deployed with: --secrets-file .env.deploy. If it is lost, create a new one: see 'Protecting a node' in " +
        'docs/deploy.md.',
    )
  const owner = nodeIdOfSecret(secret)
  if (owner === undefined) return secret
  throw new UserError(
    'no_credentials',
    `The NODE_SECRET in ${where} is the secret of node '${owner}'. The gateway's NODE_SECRET is needed, from which it was derived.`,
  )
}
