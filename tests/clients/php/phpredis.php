<?php
// What a program does with phpredis, and PHP's sessions: phpredis.php PORT BEHIND.
// With a third word it publishes, so that the one who subscribes has something to hear.

[$port, $behindPort] = array_map('intval', array_slice($argv, 1, 2));

function out(string $line): void
{
    // What is echoed counts as a page, and sessions must start before it.
    fwrite(STDOUT, "$line\n");
}

function say(string $what, $value): void
{
    global $port;
    out(str_replace(":$port", ':PORT', "$what: " . json_encode($value, JSON_INVALID_UTF8_SUBSTITUTE)));
}

function attempt(string $what, callable $call): void
{
    try {
        say($what, $call());
    } catch (Throwable $error) {
        say($what, get_class($error) . ': ' . $error->getMessage());
    }
}

function eventually(string $what, callable $condition): void
{
    $deadline = microtime(true) + 20;
    while (!$condition()) {
        if (microtime(true) > $deadline) {
            throw new Exception("waited in vain for $what");
        }
        usleep(2000);
    }
    say('eventually', $what);
}

function connect(?int $to = null, array $options = []): Redis
{
    global $port;
    $redis = new Redis();
    $redis->connect('127.0.0.1', $to ?? $port, 5, null, 0, $options['read_timeout'] ?? 20, $options);
    return $redis;
}

if (isset($argv[3])) {
    $redis = connect();
    eventually('a receiver', fn () => $redis->publish('more', 'one') === 1);
    for ($number = 0; $number < 100; $number++) {
        $redis->publish('news', $number);
    }
    exit(0);
}

$near = connect();
$behind = connect($behindPort);

function options(): void
{
    global $near, $behind;
    $named = connect();
    $named->client('setname', 'mine');
    $named->select(3);
    $named->set('where', 'three');
    say('name and database', [$named->client('getname'), $named->get('where'), $near->get('where')]);
    say('listed', array_values(array_filter(array_column($near->client('list'), 'name'), fn ($name) => $name === 'mine')));
    $behind->rawCommand('ACL', 'SETUSER', 'app', 'on', '>secret', '~app:*', '+@all');
    $app = connect(null, ['auth' => ['app', 'secret']]);
    say('allowed', [$app->rawCommand('ACL', 'WHOAMI'), $app->set('app:1', 'a'), $app->get('app:1'), $app->get('app:1')]);
    attempt('forbidden', fn () => $app->get('s'));
    attempt('wrong password', fn () => connect(null, ['auth' => ['app', 'wrong']])->ping());
    say('no such database', [$named->select(99), $named->getLastError()]);
    attempt('time out', fn () => connect(null, ['read_timeout' => 0.1])->blPop(['nothing'], 5));
    $prefixed = connect();
    $prefixed->setOption(Redis::OPT_PREFIX, 'mine:');
    $prefixed->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
    say('prefix', [$prefixed->set('k', ['a' => 1]), $prefixed->get('k'), $near->get('mine:k')]);
}

function values(): void
{
    global $near;
    say('set and get', [$near->set('s', 'grün'), $near->get('s'), $near->get('s'), $near->get('none')]);
    $bytes = implode('', array_map('chr', range(0, 255)));
    say('binary', [$near->set($bytes, $bytes), $near->get($bytes) === $bytes, $near->get($bytes) === $bytes]);
    $big = str_repeat($bytes, 40000);
    say('10 MB', [$near->set('big', $big), $near->get('big') === $big, $near->get('big') === $big, $near->strlen('big')]);
    $near->hMSet('h', ['a' => 1, 'b' => '2']);
    say('hash', [$near->hGetAll('h'), $near->hMGet('h', ['a', 'c']), $near->hGetAll('none')]);
    $near->zAdd('z', 1.5, 'x', 2, 'y');
    say('scores', [$near->zRange('z', 0, -1, true), $near->zScore('z', 'x'), $near->zScore('z', 'no')]);
    $near->sAdd('set', 1, 2);
    $members = $near->sMembers('set');
    sort($members);
    say('set', [$members, $near->sIsMember('set', 1)]);
    say('many', [$near->mSet(['m1' => 1, 'm2' => 2]), $near->mGet(['m1', 'none', 'h']), $near->mGet(['m1', 'm2'])]);
    say('expiry', [$near->set('e', 1, ['nx', 'ex' => 100]), $near->ttl('e'), $near->set('e', 1, ['nx']), $near->type('e')]);
    say('wrong type', [$near->get('h'), $near->getLastError()]);
    say('unknown', [$near->rawCommand('NOSUCH', 'a'), $near->getLastError()]);
    say('not a number', [$near->incr('s'), $near->getLastError()]);
    $near->clearLastError();
}

function pipelines(): void
{
    global $near, $behind;
    $pipe = $near->multi(Redis::PIPELINE);
    for ($number = 0; $number < 500; $number++) {
        $pipe->set('p:' . $number % 10, $number)->get('p:' . $number % 10);
    }
    say('pipeline', $pipe->exec());
    $near->set('t', 1);
    say('transaction', $near->multi()->incr('t')->get('t')->exec());
    foreach (['foreign' => $behind, 'own' => connect()] as $name => $writer) {
        $near->watch('t');
        say('watched', $near->get('t'));
        $writer->set('t', 10);
        say("conflict, $name write", $near->multi()->set('t', 3)->exec());
    }
    $near->watch('t');
    $near->unwatch();
    $behind->set('t', 11);
    say('unwatched', $near->multi()->incr('t')->exec());
    say('error inside', [$near->multi()->incr('s')->get('t')->exec(), $near->getLastError()]);
    say('discarded', [$near->multi()->set('t', 99)->discard(), $near->get('t')]);
}

function channels(): void
{
    global $port, $behindPort, $argv;
    $publisher = proc_open([PHP_BINARY, $argv[0], "$port", "$behindPort", 'publish'], [1 => ['file', '/dev/null', 'w']], $pipes);
    $got = [];
    // The library listens until its time is up; unsubscribing does not end it.
    $listener = connect(null, ['read_timeout' => 3]);
    $hear = function ($redis, $channel, $text) use (&$got) {
        $got[] = [$channel, $text];
        if ($text === '99') {
            $redis->unsubscribe(['news', 'more']);
        }
    };
    attempt('listened', fn () => $listener->subscribe(['news', 'more'], $hear));
    say('publisher', proc_close($publisher));
    say('in order', $got);
}

function blocking(): void
{
    global $near;
    $near->rPush('q1', 'a', 'b', 'c');
    say('there already', [$near->blPop(['q0', 'q1'], 1), $near->brPop('q1', 1), $near->brpoplpush('q1', 'q2', 1)]);
    say('timed out', [$near->blPop('q1', 1), $near->lRange('q2', 0, -1)]);
}

function streams(): void
{
    global $near;
    $near->xGroup('CREATE', 'x', 'workers', '0', true);
    say('group exists', [$near->xGroup('CREATE', 'x', 'workers', '0'), $near->getLastError()]);
    for ($number = 1; $number <= 5; $number++) {
        $near->xAdd('x', "$number-1", ['n' => $number]);
    }
    say('read by group', $near->xReadGroup('workers', 'one', ['x' => '>'], 3));
    say('the rest', $near->xReadGroup('workers', 'two', ['x' => '>'], 10, 50));
    say('nothing more', $near->xReadGroup('workers', 'two', ['x' => '>'], 10, 50));
    say('acknowledged', [$near->xAck('x', 'workers', ['1-1', '2-1']), $near->xPending('x', 'workers')]);
    say('claimed', $near->rawCommand('XAUTOCLAIM', 'x', 'workers', 'three', 0, '0-0', 'COUNT', 2));
    say('ranges', [$near->xRange('x', '2-1', '3-1'), $near->xLen('x'), $near->xRead(['x' => '4-1'], 1, 50)]);
}

function scripts(): void
{
    global $near;
    $double = "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], v * 2) return v * 2";
    $near->set('script', 5);
    $call = function () use ($near, $double) {
        $value = $near->evalSha(sha1($double), ['script'], 1);
        if ($value === false && str_starts_with((string) $near->getLastError(), 'NOSCRIPT')) {
            $near->clearLastError();
            return ['loaded', $near->eval($double, ['script'], 1)];
        }
        return $value;
    };
    say('script', [$near->get('script'), $call(), $near->get('script'), $call(), $near->get('script')]);
    say('after a flush', [$near->script('flush'), $call(), $near->get('script')]);
    say('nested', $near->eval("return {1, 'two', false, {3, {4, {5}}}}"));
}

function scans(): void
{
    global $near;
    $near->mSet(array_combine(array_map(fn ($number) => "scan:$number", range(0, 4999)), range(0, 4999)));
    $near->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    [$found, $cursor] = [[], null];
    while ($keys = $near->scan($cursor, 'scan:*', 50)) {
        $found = array_merge($found, $keys);
    }
    say('found', count(array_unique($found)));
}

function sessions(): void
{
    global $port;
    ini_set('session.save_handler', 'redis');
    ini_set('session.save_path', "tcp://127.0.0.1:$port?database=2&prefix=sess:");
    ini_set('redis.session.locking_enabled', '1');
    ini_set('session.use_cookies', '0');
    ini_set('session.cache_limiter', '');
    for ($visit = 1; $visit <= 5; $visit++) {
        session_id('visitor');
        session_start();
        $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
        session_write_close();
    }
    session_id('visitor');
    session_start();
    $visits = $_SESSION['visits'];
    session_destroy();
    $in = connect();
    $in->select(2);
    say('sessions', [$visits, $in->keys('*')]);
}

function restarts(): void
{
    global $near;
    out('@restart');
    fgets(STDIN);
    eventually('reconnected', function () use ($near) {
        try {
            return $near->set('again', '1');
        } catch (RedisException $lost) {
            return false;
        }
    });
    say('after a restart', [$near->get('again'), $near->get('again')]);
}

out('version ' . phpversion('redis'));
foreach (['options', 'values', 'pipelines', 'channels', 'blocking', 'streams', 'scripts', 'scans', 'sessions', 'restarts'] as $scenario) {
    say('---', $scenario);
    $scenario();
}
out('done');
