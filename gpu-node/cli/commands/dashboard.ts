import type { Command } from 'commander'
import { dashboardLink } from '@copal/shared/wire/admin-session.ts'
import type { Session } from '../api/session.ts'

/** Adds `copal dashboard`. */
export function addDashboard(program: Command, session: Session): void {
  program
    .command('dashboard')
    .description('print a link that opens the dashboard signed in, once, within five minutes')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  npx copal dashboard\n  xdg-open "$(npx copal dashboard)"')
    .action(async ({ json }: { json?: boolean }) => {
      const link = await session.client().admin('POST', '/dashboard-links', dashboardLink)
      session.print(json, link, () => link.url)
    })
}
