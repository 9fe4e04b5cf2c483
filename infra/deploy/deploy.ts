/**
 * `npm run deploy [-- arguments of wrangler deploy]`: brings the database to this checkout's schema and the Worker to
 * Cloudflare. `docs/deploy.md` says what must be there before.
 */
import { unstable_readConfig } from 'wrangler'
import { join } from 'node:path'
import { ROOT } from '../local/toolchain.mjs'
import { planDeploy } from './plan.ts'
import { runWrangler } from './wrangler.ts'

const args = process.argv.slice(2)
const config = unstable_readConfig({ config: join(ROOT, 'wrangler.toml') }, { hideWarnings: true })
const plan = planDeploy(config.d1_databases, args)
if ('refusal' in plan) {
  process.stderr.write(`copal: ${plan.refusal}\n`)
  process.exitCode = 1
} else {
  for (const step of plan.steps) {
    const { exitCode } = await runWrangler(step, { terminal: true })
    process.exitCode = exitCode
    if (exitCode !== 0) break
  }
}
if (process.connected) process.disconnect()
