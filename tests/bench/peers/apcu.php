<?php
/* apcu.php: work.py and team.py said in PHP, over APCu: fill, fork the workers, meet before each
 * loop, write what each worker did as JSON. Run as `php apcu.php work.json` by foreign.py, which
 * makes the figures. Waits are bounded; a worker that fails makes the program fail. */

const LEAD = 3000000;       // ns from the last one's coming to the common start
const PATIENCE = 30000000000;
const CHUNK = 256;          // operations between two looks at the clock
const SAMPLES_MOST = 200000;

$work = json_decode(file_get_contents($argv[1]), true);
$value = str_repeat("\0", 8) . random_bytes($work['value_bytes'] - 8);

if ($work['mixes'] === null) {
    $before = apcu_sma_info(true)['avail_mem'];
    for ($i = 0; $i < $work['keys']; $i++) {
        if (!apcu_store(sprintf('user:%011d', $i), $value)) { fwrite(STDERR, 'full'); exit(4); }
    }
    if (apcu_cache_info(true)['num_entries'] !== $work['keys']) { fwrite(STDERR, 'lost'); exit(5); }
    file_put_contents($work['out'], json_encode($before - apcu_sma_info(true)['avail_mem']));
    exit(0);
}

for ($i = 0; $i < $work['keys']; $i++) {
    if (!apcu_store(sprintf('user:%08d', $i), $value)) { fwrite(STDERR, 'full'); exit(4); }
}
apcu_store('counter', 0);
$workers = count($work['draws']);
$children = [];
for ($number = 0; $number < $workers; $number++) {
    $pid = pcntl_fork();
    if ($pid === 0) { be_worker($work, $number, $workers, $value); exit(0); }
    $children[] = $pid;
}
$failed = 0;
foreach ($children as $pid) {
    pcntl_waitpid($pid, $status);
    if (!pcntl_wifexited($status) || pcntl_wexitstatus($status) !== 0) $failed++;
}
if ($failed) { fwrite(STDERR, "$failed workers failed"); exit(3); }
$answers = [];
for ($number = 0; $number < $workers; $number++) {
    $answers[] = json_decode(file_get_contents($work['out'] . $number));
}
file_put_contents($work['out'], json_encode($answers));

/* Return to all at the same moment, when all have come. */
function meet(int $workers): void {
    static $meeting = 0;
    $meeting++;
    $give_up = hrtime(true) + PATIENCE;
    if (apcu_inc("met:$meeting") === $workers) apcu_store("start:$meeting", hrtime(true) + LEAD);
    while (($start = apcu_fetch("start:$meeting")) === false) {
        usleep(100);
        if (hrtime(true) > $give_up) { fwrite(STDERR, 'nobody came'); exit(7); }
    }
    $left = $start - hrtime(true);
    if ($left > 0) usleep(intdiv($left, 1000));
}

function cpu(): float {
    $used = getrusage();
    return $used['ru_utime.tv_sec'] + $used['ru_stime.tv_sec']
        + ($used['ru_utime.tv_usec'] + $used['ru_stime.tv_usec']) / 1e6;
}

/* The throughput loop: [operations, first moment, last moment, CPU seconds]. */
function throughput(string $mix, array $keys, array $writes, string $value, float $seconds): array {
    $last = count($keys) - CHUNK;
    $at = 0; $done = 0; $cpu = cpu(); $start = hrtime(true); $stop = $start + (int)($seconds * 1e9);
    do {
        if ($at > $last) $at = 0;
        $to = $at + CHUNK;
        if ($mix === 'read') {
            for ($i = $at; $i < $to; $i++) apcu_fetch($keys[$i]);
        } elseif ($mix === 'write') {
            for ($i = $at; $i < $to; $i++) apcu_store($keys[$i], $value);
        } elseif ($mix === 'incr') {
            for ($i = $at; $i < $to; $i++) apcu_inc('counter');
        } else {
            for ($i = $at; $i < $to; $i++) {
                if ($writes[$i]) apcu_store($keys[$i], $value);
                else apcu_fetch($keys[$i]);
            }
        }
        $done += CHUNK; $at = $to; $now = hrtime(true);
    } while ($now < $stop);
    return [$done, $start / 1e9, $now / 1e9, cpu() - $cpu];
}

/* The latency loop: nanoseconds => how often. */
function latencies(string $mix, array $keys, array $writes, string $value, float $seconds): array {
    $ticks = []; $count = count($keys); $end = hrtime(true) + (int)($seconds * 1e9);
    for ($i = 0; $i < SAMPLES_MOST; $i++) {
        $at = $i % $count; $key = $keys[$at];
        if ($mix === 'incr') {
            $before = hrtime(true); apcu_inc('counter'); $after = hrtime(true);
        } elseif ($mix === 'write' || ($mix === '90/10' && $writes[$at])) {
            $before = hrtime(true); apcu_store($key, $value); $after = hrtime(true);
        } else {
            $before = hrtime(true); apcu_fetch($key); $after = hrtime(true);
        }
        $took = $after - $before;
        $ticks[$took] = ($ticks[$took] ?? 0) + 1;
        if ($after > $end) break;
    }
    return $ticks;
}

function be_worker(array $work, int $number, int $workers, string $value): void {
    $file = file_get_contents($work['draws'][$number]);
    $count = intdiv(strlen($file), 5);      // four bytes of number, one that says written or not
    $names = [];
    for ($i = 0; $i < $work['keys']; $i++) $names[] = sprintf('user:%08d', $i);
    $keys = []; $writes = [];
    foreach (unpack("V$count", $file) as $which) $keys[] = $names[$which];
    for ($i = 0; $i < $count; $i++) $writes[] = ord($file[4 * $count + $i]) === 1;
    if (apcu_fetch($keys[0]) !== $value) { fwrite(STDERR, 'a wrong value'); exit(6); }
    $answers = [];
    foreach ($work['mixes'] as $mix) {
        $from = apcu_fetch('counter');
        meet($workers);
        [$warm] = throughput($mix, $keys, $writes, $value, $work['warm_seconds']);
        meet($workers);
        [$done, $start, $stop, $cpu] = throughput($mix, $keys, $writes, $value, $work['seconds']);
        meet($workers);
        $ticks = latencies($mix, $keys, $writes, $value, $work['latency_seconds']);
        meet($workers);
        $incr = $mix === 'incr';
        $answers[] = [
            'mix' => $mix, 'operations' => $done, 'start' => $start, 'stop' => $stop,
            'cpu' => $cpu, 'ticks' => (object)$ticks,
            'calls' => $incr ? $warm + $done + array_sum($ticks) : 0,
            'moved' => $incr && $number === 0 ? apcu_fetch('counter') - $from : null,
        ];
    }
    file_put_contents($work['out'] . $number, json_encode($answers));
}
