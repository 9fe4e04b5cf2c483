import { useState } from 'preact/hooks'
import { Facts } from '../../components/facts.tsx'
import { SelectField } from '../../components/fields.tsx'
import type { PlainColumn } from '../../components/plain-table.tsx'
import { Problem } from '../../components/problem.tsx'
import { Status } from '../../components/status.tsx'
import { TableDetails } from '../../components/table-details.tsx'
import { formatCount, formatMs, formatNumber, formatShare, NONE } from '../../format/numbers.ts'
import { maskName } from '../../format/mask-names.ts'
import type { StreamToken } from './chat-stream.ts'
import type { WeightChoice } from './model-choices.ts'
import { describeSurprise, tintOf } from './surprise.ts'
import type { Answer } from './use-answer.ts'

interface AnswerColumnProps {
  label: string
  version: number
  choices: readonly WeightChoice[]
  onChoose: (version: number) => void
  /** Whether a live node holds the weights. */
  isLoaded: boolean
  answer: Answer
  /** Tokens with which both answers begin alike; `undefined` while one is missing. */
  common: number | undefined
}

/** One answer: the weights, its tokens tinted by their surprise, then speed and cost. */
export function AnswerColumn({
  label,
  version,
  choices,
  onChoose,
  answer,
  common,
  isLoaded,
}: AnswerColumnProps) {
  const { figures, usage, state } = answer
  const isOther = answer.maskVersion !== undefined && answer.maskVersion !== version
  return (
    <section class="answer" aria-label={label}>
      <SelectField
        label={label}
        hidesLabel
        value={String(version)}
        options={choices.map((choice) => ({ value: String(choice.version), label: choice.label }))}
        onChange={(value) => onChoose(Number(value))}
      />
      {!isLoaded && (
        <p class="soft">
          No live node holds these weights. Nodes hold the active mask, the previous one, and masks on trial.
        </p>
      )}
      <Tokens answer={answer} common={common} />
      <TokenTable answer={answer} label={label} />
      {isOther && state !== 'idle' && (
        <p class="soft">
          This answer is from {maskName(answer.maskVersion ?? 0)}; the choice has changed since.
        </p>
      )}
      <Facts
        facts={[
          { label: 'First token', value: formatMs(figures.firstTokenMs) },
          { label: 'Tokens/s', value: formatNumber(figures.tokensPerSecond), title: 'After the first token' },
          {
            label: 'Mean surprise',
            value: figures.meanSurprise === null ? '–' : `${figures.meanSurprise.toFixed(2)} nats`,
            title: 'Nats a token of its own answer; answers that differ do not compare by it.',
          },
          {
            label: 'Charged',
            value: usage ? `${formatCount(usage.total_tokens)} tokens` : '–',
            title: usage
              ? `${usage.prompt_tokens} of the prompt, ${usage.completion_tokens} of the answer`
              : undefined,
          },
        ]}
      />
    </section>
  )
}

const STATES: Readonly<Record<Answer['state'], string>> = {
  idle: 'The answer comes here.',
  waiting: 'Waiting for the first token',
  streaming: 'Streaming',
  done: 'Done',
  stopped: 'Stopped',
  failed: 'Failed',
}

function Tokens({ answer, common }: { answer: Answer; common: number | undefined }) {
  const { tokens, state, problem, finish } = answer
  const [current, setCurrent] = useState<number>()
  const token = current === undefined ? undefined : tokens[current]
  const word = finish === 'length' && state === 'done' ? 'Done, at the maximum of tokens' : STATES[state]
  return (
    <>
      <p class="readout soft" role="status">
        {token ? (
          <span class="num">{`“${token.text.trim() === '' ? '␣' : token.text.trim()}” ${describeSurprise(token.surprise)}`}</span>
        ) : state === 'streaming' || state === 'waiting' ? (
          <Status tone="busy">{word}</Status>
        ) : (
          word
        )}
      </p>
      <p
        class="tokens"
        onMouseLeave={() => setCurrent(undefined)}
        onMouseOver={(event) => {
          const index = event.target instanceof HTMLElement ? event.target.dataset['index'] : undefined
          setCurrent(index === undefined ? undefined : Number(index))
        }}
      >
        {tokens.map(({ text, surprise }, index) => (
          <span
            key={index}
            data-index={index}
            class={`tint-${tintOf(surprise)}${index === common && common > 0 ? ' tokens-part' : ''}`}
          >
            {text}
          </span>
        ))}
      </p>
      <Problem message={problem} />
    </>
  )
}

/** The tokens with their probabilities as a table. */
function TokenTable({ answer: { tokens }, label }: { answer: Answer; label: string }) {
  if (tokens.length === 0) return null
  return (
    <TableDetails
      label={`${label}, tokens`}
      rows={[...tokens.entries()]}
      rowKey={([index]) => index}
      columns={TOKEN_COLUMNS}
    />
  )
}

const TOKEN_COLUMNS: readonly PlainColumn<[index: number, token: StreamToken]>[] = [
  { title: 'Token', cell: ([, { text }]) => <code>{JSON.stringify(text)}</code> },
  {
    title: 'Probability',
    align: 'end',
    cell: ([, { surprise }]) => (surprise === undefined ? NONE : formatShare(Math.exp(-surprise))),
  },
  {
    title: 'Nats',
    align: 'end',
    cell: ([, { surprise }]) => (surprise === undefined ? NONE : surprise.toFixed(2)),
  },
]
