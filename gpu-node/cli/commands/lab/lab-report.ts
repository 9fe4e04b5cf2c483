import { resolve } from 'node:path'
import type { Command } from 'commander'
import { readResults } from '@copal/lab/results/results-file.ts'
import type { Session } from '../../api/session.ts'

/** Adds `copal lab report`, which renders the report of a result again. */
export function addLabReport(lab: Command, session: Session): void {
  lab
    .command('report')
    .description('render report.md, report.html and the plots of a result again')
    .argument('<dir>', "the folder that 'npx copal lab run' wrote")
    .option('--png', 'also write the plots as PNG')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  npx copal lab report results\n  npx copal lab report results --png')
    .action(async (dir: string, options: { png?: boolean; json?: boolean }) => {
      const folder = resolve(session.terminal.cwd, dir)
      const results = await readResults(folder)
      // Loaded here because the plotting library would slow down every other command.
      const { writeReport } = await import('@copal/lab/report/write-report.ts')
      const files = await writeReport(folder, results, { png: options.png ?? false })
      session.print(options.json, { dir: folder, files }, () =>
        [`Written to ${folder}:`, ...files.map((file) => `  ${file}`)].join('\n'),
      )
    })
}
