import type { Command } from 'commander'
import type { Session } from '../session.ts'
import { addLabCompare } from './lab-compare.ts'
import { addLabReport } from './lab-report.ts'
import { addLabRun } from './lab-run.ts'
import { addLabRowSensitivity } from './lab-row-sensitivity.ts'
import { addLabSensitivity } from './lab-sensitivity.ts'

/** `copal lab …`: compare pruning methods on texts, without a service. */
export function addLab(program: Command, session: Session): void {
  const lab = program
    .command('lab')
    .description('compare pruning methods on your own texts; needs no running service')
    .addHelpText(
      'after',
      '\nExample:\n  copal lab run --domain legal=legal.txt:legal-heldout.txt --domain mail=:mail.txt --out lab',
    )
  addLabRun(lab, session)
  addLabReport(lab, session)
  addLabCompare(lab, session)
  addLabSensitivity(lab, session)
  addLabRowSensitivity(lab, session)
}
