/**
 * `npm run deploy [-- arguments of wrangler deploy]`: migrates the database to this checkout's schema and deploys the
 * Worker to Cloudflare. `docs/deploy.md` lists the prerequisites.
 */
import { unstable_readConfig } from 'wrangler'
import { ensureDashboard } from '../local/dashboard/ensure-dashboard.ts'
import { ROOT } from '../local/toolchain/toolchain.mjs'
import { planDeploy, targetOf, type Target } from './plan.ts'
import { runWrangler } from '../local/toolchain/run-wrangler.ts'

const args = process.argv.slice(2)
process.exitCode = await deploy()
if (process.connected) process.disconnect()

async function deploy(): Promise<number> {
  const target = targetOf(args, ROOT)
  const databases = readDatabases(target)
  if (!databases) return 1
  const plan = planDeploy(databases, target, args)
  if ('error' in plan) {
    process.stderr.write(`copal: ${plan.error}\n`)
    return 1
  }
  const { error } = ensureDashboard()
  if (error !== undefined) {
    process.stderr.write(`copal: The dashboard cannot be built:\n${error}\n`)
    return 1
  }
  for (const { args: step, mustPrint } of plan.steps) {
    const { exitCode, output } = await runWrangler(step, { terminal: mustPrint === undefined })
    if (mustPrint !== undefined && !output.includes(mustPrint)) {
      process.stderr.write(
        `copal: The Worker was not deployed, because the database is not migrated. 'wrangler ${step.join(' ')}' says:\n${output}`,
      )
      return 1
    }
    if (exitCode !== 0) return exitCode
  }
  return 0
}

/** Returns the databases of the environment; prints the error and returns undefined when Wrangler cannot read them. */
function readDatabases({ configPath, env }: Target) {
  try {
    const from = env === undefined ? { config: configPath } : { config: configPath, env }
    return unstable_readConfig(from, { hideWarnings: true }).d1_databases
  } catch (error) {
    if (!(error instanceof Error)) throw error
    process.stderr.write(`copal: ${error.message}\n`)
    return undefined
  }
}
