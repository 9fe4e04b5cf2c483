import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseEnv } from 'node:util'
import { InvalidArgumentError, type Command } from 'commander'
import { nodeId, nodeIdOfSecret, nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Session } from '../api/session.ts'
import type { Terminal } from '../output/terminal.ts'
import { readTextFile } from '../input/text-file.ts'

/** `copal nodes secret`: asks nobody, since the gateway's secret never leaves where it is. */
export function addNodeSecret(nodes: Command, session: Session): void {
  nodes
    .command('secret')
    .description("print the secret of a node, its COPAL_NODE_SECRET, made of the gateway's NODE_SECRET")
    .argument('<node>', 'its name, its own in the fleet', name)
    .option('--secrets-file <file>', 'where NODE_SECRET is, as given to npm run deploy')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nWithout a file it is the variable NODE_SECRET, or that of the service in COPAL_HOME.' +
        '\n\nExamples:\n  copal nodes secret node-2\n  copal nodes secret node-2 --secrets-file .env.deploy',
    )
    .action(async (id: string, { secretsFile }: { secretsFile?: string }, command: Command) => {
      const secret = await nodeSecret(gatewaySecret(session.terminal, secretsFile), id)
      // `copal nodes` takes it too, and takes it first.
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      session.print(json, { node: id, secret }, () => secret)
    })
}

function name(text: string): string {
  if (nodeId.safeParse(text).success) return text
  throw new InvalidArgumentError("A node's name is 1 to 64 letters, digits, '.', '_' or '-'.")
}

/** @throws UserError `no_credentials` when there is none, or not the gateway's; like {@link readTextFile} */
function gatewaySecret({ env, cwd, root }: Terminal, file: string | undefined): string {
  const ofHome = join(env.COPAL_HOME || join(root, '.copal'), 'gateway.env')
  const path = file ?? (!env.NODE_SECRET && existsSync(resolve(cwd, ofHome)) ? ofHome : undefined)
  const where = path ?? 'the environment'
  const secret = path === undefined ? env.NODE_SECRET : parseEnv(readTextFile(path, cwd)).NODE_SECRET
  if (secret === undefined || secret.length < 16)
    throw new UserError(
      'no_credentials',
      `The NODE_SECRET in ${where} is missing or shorter than 16 characters. Name the file that the gateway was ` +
        "deployed with: --secrets-file .env.deploy. Where it is lost, make a new one: 'What stands in front of a node' in " +
        'docs/deploy.md.',
    )
  const owner = nodeIdOfSecret(secret)
  if (owner === undefined) return secret
  throw new UserError(
    'no_credentials',
    `The NODE_SECRET in ${where} is the secret of node '${owner}'. The gateway's is needed, of which that was made.`,
  )
}
